#pragma once

#include "kernels/cuda/fft_conv/fft_conv.cuh"

/// fft_conv of short documents in float32. With up to 512 points a row, a block holds 4096 points, 8 channels of one or
/// of several documents, from reading the tokens to writing the results; there is no workspace. For longer rows a block
/// would hold fewer channels and would use too little of each cache line that it reads.
namespace causeway::cuda {

/// Whether documents of `points` points, a power of two in this range, are transformed this way.
inline bool fits_one_block(std::int64_t points) { return points >= 64 && points <= 512; }

/// to = the spectra of the first `count` taps of the groups, in the order in which the threads of a block hold them.
template <class T>
void short_filters(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
                   TensorView taps, Complex<float>* to);

/// taps += the inverse transforms of such spectra.
void add_short_filters(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
                       const Complex<float>* from, TensorView taps);

/// output = gated (filter + skip) ∗ input on a batch.
template <class T>
void short_forward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups, const Complex<float>* h,
                   const Skip<T>& skip, const GatedInput<T>& input, const GatedOutput& output);

/// The tensors that short_backward reads and writes.
template <class T>
struct ShortGradients {
  GatedInput<T> kv, dc;
  GatedOutput d_v, d_k, d_q;  ///< d_k and d_q may be absent
};

/// d_h = Σ conj(x) ⊙ dc of the batch, added to d_h if `accumulate`; and the gradients of the tokens.
template <class T>
void short_backward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups, const Complex<float>* h,
                    const Skip<T>& skip, const ShortGradients<T>& of, bool accumulate, Complex<float>* d_h);

}  // namespace causeway::cuda

#pragma once

#include "kernels/cuda/fft_conv/fft_conv.cuh"

/// fft_conv of short documents in float32: up to 512 numbers a block holds 4096 of them, 8 channels of one document or
/// of several, from reading the tokens to writing the results. Of longer ones it would hold fewer channels, and too
/// little of every line that it reads.
namespace causeway::cuda {

/// Whether documents of `points` numbers, a power of two up to 512, go in one block.
inline bool in_one_block(std::int64_t points) { return points >= 64 && points <= 512; }

/// to = the spectra of the first `count` taps of the groups, in the order in which a block's threads hold them.
template <class T>
void short_filters(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups, TensorView taps,
                   Complex<float>* to);

/// taps += what such spectra are the transforms of.
void add_short_filters(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups,
                       const Complex<float>* from, TensorView taps);

/// output = gated filter ∗ factors on a piece.
template <class T>
void short_forward(const Stream& stream, const Piece& piece, const Groups& groups, const Complex<float>* h,
                   const Skip<T>& skip, const Factors<T>& from, const GatedOutput& output);

/// What short_backward reads and writes.
template <class T>
struct ShortGradients {
  Factors<T> kv, dc;
  GatedOutput d_v, d_k, d_q;  ///< the second and third may be absent
};

/// d_h = Σ conj(x) ⊙ dc of the piece, or added to.
template <class T>
void short_backward(const Stream& stream, const Piece& piece, const Groups& groups, const Complex<float>* h,
                    const Skip<T>& skip, const ShortGradients<T>& of, bool accumulate, Complex<float>* d_h);

}  // namespace causeway::cuda

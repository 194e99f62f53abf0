#pragma once

#include "kernels/cuda/fft_conv/fft_conv.cuh"

/// The general way, for every N and every type: kernels around the transforms of cuFFT. Between them the rows of a
/// batch are in a workspace (Spectra).
namespace causeway::cuda {

// fft_conv_transpose.cu

/// to = U of the values of `from` on the documents of a batch, padded with zeros.
template <class T>
void load_rows(const Stream& stream, const RowBatch& batch, const GatedInput<T>& from, Complex<Accumulator<T>>* to);

/// Writes U* from / N to one output, or to two.
template <class T>
void store_rows(const Stream& stream, const RowBatch& batch, const Complex<Accumulator<T>>* from,
                const GatedOutput& first, const GatedOutput& second = {});

/// to = U of the first `count` taps of the groups, one row for each group.
template <class T>
void load_taps(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
               TensorView taps, Complex<Accumulator<T>>* to);

/// taps += the real values of U* from / N.
template <class T>
void add_taps(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
              const Complex<Accumulator<T>>* from, TensorView taps);

// fft_conv_multiply.cu

/// The number of parts into which multiply_spectra and its backward cut the rows of a group.
std::int64_t multiply_parts(const RowBatch& batch, const FilterGroups& groups);

/// x = x ⊙ (h + skip).
template <class T>
void multiply_spectra(const Stream& stream, const RowBatch& batch, const FilterGroups& groups,
                      const Complex<Accumulator<T>>* h, const Skip<T>& skip, Complex<Accumulator<T>>* x);

/// d_h = Σ conj(x) ⊙ dc over the rows of each group in the batch, added to d_h if `accumulate`. Then
/// dc = dc ⊙ conj(h + skip) and, if `output`, x = x ⊙ (h + skip). Each of the `parts` has its own d_h, one after the
/// other in memory.
template <class T>
void multiply_spectra_backward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups,
                               const Complex<Accumulator<T>>* h, const Skip<T>& skip, bool output,
                               Complex<Accumulator<T>>* x, Complex<Accumulator<T>>* dc, bool accumulate,
                               std::int64_t parts, Complex<Accumulator<T>>* d_h);

}  // namespace causeway::cuda

#pragma once

#include "kernels/cuda/fft_conv/fft_conv.cuh"
#include "kernels/cuda/fft_conv/row_dft.cuh"

/// A four-step FFT in float32 for N = N1 · 4096 points (D. H. Bailey, FFTs in external or hierarchical memory, 1990),
/// without its transposition. Point t = 4096 t1 + t2 is in row t1 and column t2 of a matrix [N1, 4096]:
///   1. Transform the columns, over t1, while the tokens are read (fft_conv_four_step_columns.cu).
///   2. Multiply by the twiddle factors exp(-πi t2 (4 k1 - 1) / 2N): the transform's own, and the part of U that
///      depends on t2.
///   3. Transform the rows, over t2 (steps 2 and 3: fft_conv_four_step_rows.cu).
/// The kernel of steps 2 and 3 also multiplies the spectra and then inverts 3 and 2. The inverse of step 1 writes the
/// results to the tokens. In all, the workspace is written twice and read twice.
namespace causeway::cuda {

constexpr std::int64_t max_column_points = 256;  ///< the largest N1

/// Whether documents of `points` points are transformed this way.
inline bool uses_four_step(std::int64_t points) {
  return points % row_points == 0 && points / row_points <= max_column_points && (points & (points - 1)) == 0;
}

/// to = column transforms of U from.
template <class T>
void forward_columns(const Stream& stream, const RowBatch& batch, const GatedInput<T>& from, Complex<float>* to);

/// The adjoint of forward_columns, divided by N, written as store_rows writes it.
template <class T>
void inverse_columns(const Stream& stream, const RowBatch& batch, const Complex<float>* from, const GatedOutput& first,
                     const GatedOutput& second = {});

/// The same for the first `count` taps of the groups' filters. inverse_tap_columns adds to `taps`.
template <class T>
void forward_tap_columns(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
                         TensorView taps, Complex<float>* to);
void inverse_tap_columns(const Stream& stream, std::int64_t points, std::int64_t count, const FilterGroups& groups,
                         const Complex<float>* from, TensorView taps);

/// Row transforms, forward or inverse, of `filters` filters or of their gradients, in place.
void transform_filter_rows(const Stream& stream, std::int64_t points, std::int64_t filters, bool inverse,
                           Complex<float>* data);

/// to = inverse row transforms of (row transforms of x) ⊙ (h + skip). `to` may be x. h holds spectra, or transformed
/// columns if groups.own.
template <class T>
void convolve_rows(const Stream& stream, const RowBatch& batch, const FilterGroups& groups, const Complex<float>* h,
                   const Skip<T>& skip, const Complex<float>* x, Complex<float>* to);

/// d_h = Σ conj(x) ⊙ dc over the rows of each group in the batch, added to d_h if `accumulate`, where x and dc are the
/// row transforms. Then dc = inverse row transforms of dc ⊙ conj(h + skip) and, unless y is null, y as convolve_rows
/// sets it; y may be x. The rows are cut into `parts`; each part has its own d_h, one after the other in memory. If
/// groups.own, h and d_h hold transformed columns, and there are no other parts and nothing to add to.
template <class T>
void convolve_rows_backward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups,
                            const Complex<float>* h, const Skip<T>& skip, const Complex<float>* x, Complex<float>* dc,
                            Complex<float>* y, bool accumulate, std::int64_t parts, Complex<float>* d_h);

}  // namespace causeway::cuda

#pragma once

#include "kernels/cuda/fft_conv/fft_conv.cuh"
#include "kernels/cuda/fft_conv/row_dft.cuh"

/// fft_conv's transforms by kernels of our own: N = N1 · 4096 numbers of float32, number t = 4096 t1 + t2. Columns over
/// t1 are transformed on the way from and to the token-major tensors, rows over t2 where the spectra are multiplied, so
/// that a scratch is written and read twice in all: once by columns, once by rows. Between the two a number is turned
/// by exp(-πi t2 (4 k1 - 1) / 2N), which is the transform's own factor and the part of U that depends on t2.
namespace causeway::cuda {

constexpr std::int64_t most_columns = 256;

/// Whether documents of `points` numbers go this way.
inline bool in_two_steps(std::int64_t points) {
  return points % row_points == 0 && points / row_points <= most_columns && (points & (points - 1)) == 0;
}

/// to = columns of U from.
template <class T>
void columns_in(const Stream& stream, const Piece& piece, const Factors<T>& from, Complex<float>* to);

/// The adjoint of columns_in, / N, as store_rows.
template <class T>
void columns_out(const Stream& stream, const Piece& piece, const Complex<float>* from, const GatedOutput& first,
                 const GatedOutput& second = {});

/// The same for the filters of groups.
template <class T>
void tap_columns_in(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups,
                    TensorView taps, Complex<float>* to);
void tap_columns_out(const Stream& stream, std::int64_t points, std::int64_t count, const Groups& groups,
                     const Complex<float>* from, TensorView taps);

/// Rows of `rows` filters or their gradients, in place.
void filter_rows(const Stream& stream, std::int64_t points, std::int64_t rows, bool inverse, Complex<float>* data);

/// x = rows' inverse of rows of x ⊙ (h + skip).
template <class T>
void convolve_rows(const Stream& stream, const Piece& piece, const Groups& groups, const Complex<float>* h,
                   const Skip<T>& skip, Complex<float>* x);

/// d_h (+)= Σ conj(x) ⊙ dc of the piece, x as convolve_rows leaves it where `output`, dc the same with conj(h + skip).
/// Of several parts of the rows each has a d_h of its own, one after the other.
template <class T>
void convolve_rows_backward(const Stream& stream, const Piece& piece, const Groups& groups, const Complex<float>* h,
                            const Skip<T>& skip, bool output, Complex<float>* x, Complex<float>* dc, bool accumulate,
                            std::int64_t parts, Complex<float>* d_h);

}  // namespace causeway::cuda

#include "kernels/cuda/fft_conv/fft_conv_two_steps.cuh"

namespace causeway::cuda {
namespace {

using Numbers = Complex<float>[row_radix];

/// exp(πi · t2 (4 k1 - 1) / 2N) for a thread's numbers, t2 = 256 a + r; or its inverse.
__device__ __forceinline__ void turn_row(Numbers& x, std::int64_t k1, std::int64_t points, bool back) {
  const float sign = back ? 1.0f : -1.0f, each = static_cast<float>(4 * k1 - 1);  // products below 2^24: exact
  const auto turn = [&](int t2) {
    return unit(sign * (static_cast<float>(t2) * each) / static_cast<float>(2 * points));
  };
  multiply_by_powers(x, turn(static_cast<int>(threadIdx.x)), turn(row_threads));
}

__device__ __forceinline__ void load_row(Numbers& x, const Complex<float>* from) {
#pragma unroll
  for (int a = 0; a < row_radix; ++a) x[a] = from[a * row_threads + threadIdx.x];
}
__device__ __forceinline__ void store_row(const Numbers& x, Complex<float>* to) {
#pragma unroll
  for (int a = 0; a < row_radix; ++a) to[a * row_threads + threadIdx.x] = x[a];
}

/// A row from numbers to its part of the spectrum, and back.
__device__ __forceinline__ void forward(Numbers& x, std::int64_t k1, std::int64_t points, RowExchange& exchange) {
  turn_row(x, k1, points, false);
  row_forward(x, exchange);
}
__device__ __forceinline__ void inverse(Numbers& x, std::int64_t k1, std::int64_t points, RowExchange& exchange) {
  row_inverse(x, exchange);
  turn_row(x, k1, points, true);
}

/// A block a row of a filter.
template <bool back>
__global__ void __launch_bounds__(row_threads, 3) filter_row(std::int64_t points, Complex<float>* data) {
  __shared__ RowExchange exchange;
  const std::int64_t k1 = blockIdx.x % (points / row_points);
  data += std::int64_t{blockIdx.x} * row_points;
  Numbers x;
  load_row(x, data);
  if constexpr (back)
    inverse(x, k1, points, exchange);
  else
    forward(x, k1, points, exchange);
  store_row(x, data);
}

/// A block a row of a channel of a document.
template <class T>
__global__ void __launch_bounds__(row_threads, 3)
    convolve_row(Piece piece, Groups groups, const Complex<float>* h, Skip<T> skip, Complex<float>* x) {
  __shared__ RowExchange exchange;
  const std::int64_t columns = piece.points / row_points, k1 = blockIdx.x % columns,
                     channel = piece.first_channel + blockIdx.x / columns % piece.channels;
  h += (channel / groups.size - groups.first) * piece.points + k1 * row_points;
  x += std::int64_t{blockIdx.x} * row_points;
  const float added = skip(channel);
  Numbers value;
  load_row(value, x);
  forward(value, k1, piece.points, exchange);
#pragma unroll
  for (int i = 0; i < row_radix; ++i) {
    Complex<float> filter = h[i * row_threads + threadIdx.x];
    filter.re += added;
    value[i] = value[i] * filter;
  }
  inverse(value, k1, piece.points, exchange);
  store_row(value, x);
}

/// A block a row of a group, blockIdx.y one of the parts its documents by channels are cut into: so the sum over them
/// has one order.
template <class T, bool output>
__global__ void __launch_bounds__(row_threads, 2)
    convolve_row_backward(Piece piece, Groups groups, const Complex<float>* h, Skip<T> skip, Complex<float>* x,
                          Complex<float>* dc, bool accumulate, Complex<float>* d_h) {
  __shared__ RowExchange exchange;
  const std::int64_t columns = piece.points / row_points, k1 = blockIdx.x % columns, group = blockIdx.x / columns;
  const Share share(piece, groups, group, blockIdx.y, gridDim.y);
  h += group * piece.points + k1 * row_points;
  d_h += (blockIdx.y * groups.count + group) * piece.points + k1 * row_points;
  for (std::int64_t row = share.begin; row < share.end; ++row) {
    const std::int64_t channel = share.first_channel + row % share.channels,
                       at = (row / share.channels * piece.channels + channel) * piece.points + k1 * row_points;
    const float added = skip(piece.first_channel + channel);
    const bool add = accumulate || row > share.begin;
    Numbers value, gradient;
    load_row(value, x + at);
    forward(value, k1, piece.points, exchange);
    load_row(gradient, dc + at);
    forward(gradient, k1, piece.points, exchange);
#pragma unroll
    for (int i = 0; i < row_radix; ++i) {
      const int own = i * row_threads + static_cast<int>(threadIdx.x);
      const Complex<float> term = gradient[i] * conjugate(value[i]);
      d_h[own] = add ? d_h[own] + term : term;
      Complex<float> filter = h[own];
      filter.re += added;
      if constexpr (output) value[i] = value[i] * filter;
      gradient[i] = gradient[i] * conjugate(filter);
    }
    inverse(gradient, k1, piece.points, exchange);
    store_row(gradient, dc + at);
    if constexpr (output) {
      inverse(value, k1, piece.points, exchange);
      store_row(value, x + at);
    }
  }
}

}  // namespace

void filter_rows(const Stream& stream, std::int64_t points, std::int64_t rows, bool inverse, Complex<float>* data) {
  const unsigned grid = grid_of(rows * (points / row_points));
  if (inverse)
    filter_row<true><<<grid, row_threads, 0, native_of(stream)>>>(points, data);
  else
    filter_row<false><<<grid, row_threads, 0, native_of(stream)>>>(points, data);
  cuda_check(cudaGetLastError());
}

template <class T>
void convolve_rows(const Stream& stream, const Piece& piece, const Groups& groups, const Complex<float>* h,
                   const Skip<T>& skip, Complex<float>* x) {
  convolve_row<T><<<grid_of(piece.rows() * (piece.points / row_points)), row_threads, 0, native_of(stream)>>>(
      piece, groups, h, skip, x);
  cuda_check(cudaGetLastError());
}

template <class T>
void convolve_rows_backward(const Stream& stream, const Piece& piece, const Groups& groups, const Complex<float>* h,
                            const Skip<T>& skip, bool output, Complex<float>* x, Complex<float>* dc, bool accumulate,
                            std::int64_t parts, Complex<float>* d_h) {
  const dim3 grid(grid_of(groups.count * (piece.points / row_points)), static_cast<unsigned>(parts));
  const auto launch = [&]<bool gated> {
    convolve_row_backward<T, gated>
        <<<grid, row_threads, 0, native_of(stream)>>>(piece, groups, h, skip, x, dc, accumulate, d_h);
    cuda_check(cudaGetLastError());
  };
  output ? launch.template operator()<true>() : launch.template operator()<false>();
}

#define CAUSEWAY_FFT_CONV_SPECTRA(T)                                                                                  \
  template void convolve_rows<T>(const Stream&, const Piece&, const Groups&, const Complex<float>*, const Skip<T>&,   \
                                 Complex<float>*);                                                                    \
  template void convolve_rows_backward<T>(const Stream&, const Piece&, const Groups&, const Complex<float>*,          \
                                          const Skip<T>&, bool, Complex<float>*, Complex<float>*, bool, std::int64_t, \
                                          Complex<float>*)
CAUSEWAY_FFT_CONV_SPECTRA(float);
CAUSEWAY_FFT_CONV_SPECTRA(bf16);

}  // namespace causeway::cuda

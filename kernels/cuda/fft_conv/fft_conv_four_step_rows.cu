#include "kernels/cuda/fft_conv/fft_conv_four_step.cuh"

// All kernels here: a block of 256 threads transforms one row of 4096 points, a thread holds the points 256 a + thread
// for a = 0 … 15 in registers, and shared memory is the RowExchange of row_dft.cuh.
namespace causeway::cuda {
namespace {

using RowPoints = Complex<float>[row_radix];  ///< a thread's points of a row

/// Multiplies by exp(-πi t2 (4 k1 - 1) / 2N), t2 = 256 a + thread, or by the inverse of that.
__device__ __forceinline__ void multiply_by_twiddles(RowPoints& x, std::int64_t k1, std::int64_t points, bool inverse) {
  // t2 (4 k1 - 1) is below 2^24, so that the float32 product is exact.
  const float sign = inverse ? 1.0f : -1.0f, factor = static_cast<float>(4 * k1 - 1);
  const auto twiddle = [&](int t2) {
    return cis_pi(sign * (static_cast<float>(t2) * factor) / static_cast<float>(2 * points));
  };
  multiply_by_powers(x, twiddle(static_cast<int>(threadIdx.x)), twiddle(row_threads));
}

__device__ __forceinline__ void load_row(RowPoints& x, const Complex<float>* from) {
#pragma unroll
  for (int a = 0; a < row_radix; ++a) x[a] = from[a * row_threads + threadIdx.x];
}
__device__ __forceinline__ void store_row(const RowPoints& x, Complex<float>* to) {
#pragma unroll
  for (int a = 0; a < row_radix; ++a) to[a * row_threads + threadIdx.x] = x[a];
}

/// Steps 2 and 3: from row k1 of the transformed columns to its part of the spectrum.
__device__ __forceinline__ void forward(RowPoints& x, std::int64_t k1, std::int64_t points, RowExchange& exchange) {
  multiply_by_twiddles(x, k1, points, false);
  row_dft(x, exchange);
}
/// Back.
__device__ __forceinline__ void inverse(RowPoints& x, std::int64_t k1, std::int64_t points, RowExchange& exchange) {
  inverse_row_dft(x, exchange);
  multiply_by_twiddles(x, k1, points, true);
}

/// block: one row of one filter
/// thread: 16 points of the row
/// shared memory: the points that threads exchange
template <bool back>
__global__ void __launch_bounds__(row_threads, 3) transform_filter_row(std::int64_t points, Complex<float>* data) {
  __shared__ RowExchange exchange;
  const std::int64_t k1 = blockIdx.x % (points / row_points);
  data += std::int64_t{blockIdx.x} * row_points;
  RowPoints x;
  load_row(x, data);
  if constexpr (back)
    inverse(x, k1, points, exchange);
  else
    forward(x, k1, points, exchange);
  store_row(x, data);
}

/// block: one row of one channel of one document
/// thread: 16 points of the row
/// shared memory: the points that threads exchange
template <class T>
__global__ void __launch_bounds__(row_threads, 3)
    convolve_row(RowBatch batch, FilterGroups groups, const Complex<float>* h, Skip<T> skip, Complex<float>* x) {
  __shared__ RowExchange exchange;
  const std::int64_t columns = batch.points / row_points, k1 = blockIdx.x % columns,
                     channel = batch.first_channel + blockIdx.x / columns % batch.channels;
  h += (channel / groups.size - groups.first) * batch.points + k1 * row_points;
  x += std::int64_t{blockIdx.x} * row_points;
  const float skip_tap = skip(channel);
  // 1. To the spectrum.
  RowPoints value;
  load_row(value, x);
  forward(value, k1, batch.points, exchange);
  // 2. Times the filter's.
#pragma unroll
  for (int i = 0; i < row_radix; ++i) {
    Complex<float> filter = h[i * row_threads + threadIdx.x];
    filter.re += skip_tap;
    value[i] = value[i] * filter;
  }
  // 3. Back.
  inverse(value, k1, batch.points, exchange);
  store_row(value, x);
}

/// block: row k1 of one filter group (blockIdx.x), for part blockIdx.y of the group's documents and channels, which it
///   goes over one after the other: the sum d_h has a fixed order
/// thread: 16 points of the row
/// shared memory: the points that threads exchange
/// registers: the thread's points of x and of dc; d_h is in global memory
template <class T, bool output>
__global__ void __launch_bounds__(row_threads, 2)
    convolve_row_backward(RowBatch batch, FilterGroups groups, const Complex<float>* h, Skip<T> skip, Complex<float>* x,
                          Complex<float>* dc, bool accumulate, Complex<float>* d_h) {
  __shared__ RowExchange exchange;
  const std::int64_t columns = batch.points / row_points, k1 = blockIdx.x % columns, group = blockIdx.x / columns;
  const GroupRows rows(batch, groups, group, blockIdx.y, gridDim.y);
  h += group * batch.points + k1 * row_points;
  d_h += (blockIdx.y * groups.count + group) * batch.points + k1 * row_points;
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    const std::int64_t channel = rows.first_channel + row % rows.channels,
                       at = (row / rows.channels * batch.channels + channel) * batch.points + k1 * row_points;
    const float skip_tap = skip(batch.first_channel + channel);
    const bool add = accumulate || row > rows.begin;
    // 1. The spectra of x and dc.
    RowPoints value, gradient;
    load_row(value, x + at);
    forward(value, k1, batch.points, exchange);
    load_row(gradient, dc + at);
    forward(gradient, k1, batch.points, exchange);
    // 2. Their products with each other and with the filter.
#pragma unroll
    for (int i = 0; i < row_radix; ++i) {
      const int point = i * row_threads + static_cast<int>(threadIdx.x);
      const Complex<float> term = gradient[i] * conjugate(value[i]);
      d_h[point] = add ? d_h[point] + term : term;
      Complex<float> filter = h[point];
      filter.re += skip_tap;
      if constexpr (output) value[i] = value[i] * filter;
      gradient[i] = gradient[i] * conjugate(filter);
    }
    // 3. Back.
    inverse(gradient, k1, batch.points, exchange);
    store_row(gradient, dc + at);
    if constexpr (output) {
      inverse(value, k1, batch.points, exchange);
      store_row(value, x + at);
    }
  }
}

}  // namespace

void transform_filter_rows(const Stream& stream, std::int64_t points, std::int64_t filters, bool inverse,
                           Complex<float>* data) {
  const unsigned grid = grid_of(filters * (points / row_points));
  if (inverse)
    transform_filter_row<true><<<grid, row_threads, 0, native_of(stream)>>>(points, data);
  else
    transform_filter_row<false><<<grid, row_threads, 0, native_of(stream)>>>(points, data);
  cuda_check(cudaGetLastError());
}

template <class T>
void convolve_rows(const Stream& stream, const RowBatch& batch, const FilterGroups& groups, const Complex<float>* h,
                   const Skip<T>& skip, Complex<float>* x) {
  convolve_row<T><<<grid_of(batch.rows() * (batch.points / row_points)), row_threads, 0, native_of(stream)>>>(
      batch, groups, h, skip, x);
  cuda_check(cudaGetLastError());
}

template <class T>
void convolve_rows_backward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups,
                            const Complex<float>* h, const Skip<T>& skip, bool output, Complex<float>* x,
                            Complex<float>* dc, bool accumulate, std::int64_t parts, Complex<float>* d_h) {
  const dim3 grid(grid_of(groups.count * (batch.points / row_points)), static_cast<unsigned>(parts));
  const auto launch = [&]<bool with_output> {
    convolve_row_backward<T, with_output>
        <<<grid, row_threads, 0, native_of(stream)>>>(batch, groups, h, skip, x, dc, accumulate, d_h);
    cuda_check(cudaGetLastError());
  };
  output ? launch.template operator()<true>() : launch.template operator()<false>();
}

#define CAUSEWAY_FFT_CONV_FOUR_STEP_ROWS(T)                                                                           \
  template void convolve_rows<T>(const Stream&, const RowBatch&, const FilterGroups&, const Complex<float>*,          \
                                 const Skip<T>&, Complex<float>*);                                                    \
  template void convolve_rows_backward<T>(const Stream&, const RowBatch&, const FilterGroups&, const Complex<float>*, \
                                          const Skip<T>&, bool, Complex<float>*, Complex<float>*, bool, std::int64_t, \
                                          Complex<float>*)
CAUSEWAY_FFT_CONV_FOUR_STEP_ROWS(float);
CAUSEWAY_FFT_CONV_FOUR_STEP_ROWS(bf16);

}  // namespace causeway::cuda

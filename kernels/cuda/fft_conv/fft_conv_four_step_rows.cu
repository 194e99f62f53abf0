#include <cstddef>

#include "kernels/cuda/fft_conv/fft_conv_four_step.cuh"

// All kernels here: a block of 256 threads transforms rows k1 of 4096 points one after the other, a thread holds the
// points 256 a + thread for a = 0 … 15 of one of them in registers, and RowStorage is in shared memory.
namespace causeway::cuda {
namespace {

using RowPoints = Complex<float>[row_radix];  ///< a thread's points of a row

/// Shared memory of a block. 67 KiB: three blocks run at once.
struct RowStorage {
  RowExchange exchange;
  Complex<float> shifts[row_radix];              ///< exp(-πi 256 a (4 k1 - 1) / 2N)
  Complex<float> kept[row_radix * row_threads];  ///< points that the threads keep while they transform another row
};

extern __shared__ RowStorage row_storage[];  ///< one, or its beginning

/// The transforms between rows k1 of transformed columns and of spectra (steps 2 and 3). The factors of step 2,
/// exp(-πi t2 (4 k1 - 1) / 2N) with t2 = 256 a + thread, are shifts[a] times a factor of the thread.
struct RowTransform {
  RowStorage& storage;
  RowTwiddles twiddles;

  /// All threads of the block construct it together.
  __device__ RowTransform(std::int64_t k1, std::int64_t points)
      : storage(row_storage[0]), twiddles(factor(static_cast<int>(threadIdx.x), k1, points)) {
    if (threadIdx.x < row_radix)
      storage.shifts[threadIdx.x] = factor(static_cast<int>(threadIdx.x) * row_threads, k1, points);
    __syncthreads();
  }
  __device__ static Complex<float> factor(int t2, std::int64_t k1, std::int64_t points) {
    // t2 (4 k1 - 1) is below 2^24, so that the float32 product is exact.
    return cis_pi(-(static_cast<float>(t2) * static_cast<float>(4 * k1 - 1)) / static_cast<float>(2 * points));
  }

  /// x = the spectrum of the row at `from`.
  __device__ __forceinline__ void load(RowPoints& x, const Complex<float>* from) const {
#pragma unroll
    for (int a = 0; a < row_radix; ++a) x[a] = from[a * row_threads + threadIdx.x];
#pragma unroll
    for (int a = 1; a < row_radix; ++a) x[a] = x[a] * storage.shifts[a];
    row_dft(x, twiddles.hidden(), storage.exchange);
  }
  /// The row at `to` = the inverse transform of the spectrum x, which is lost.
  __device__ __forceinline__ void store(RowPoints& x, Complex<float>* to) const {
    inverse_row_dft(x, twiddles.hidden(), storage.exchange);
    to[threadIdx.x] = x[0];
#pragma unroll
    for (int a = 1; a < row_radix; ++a) to[a * row_threads + threadIdx.x] = x[a] * conjugate(storage.shifts[a]);
  }
  /// The thread's i-th point in storage.kept.
  __device__ Complex<float>& kept(int i) const { return storage.kept[i * row_threads + threadIdx.x]; }
};

/// block: one row of one filter
/// thread: 16 points of the row
template <bool back>
__global__ void __launch_bounds__(row_threads, 3) transform_filter_row(std::int64_t points, Complex<float>* data) {
  const RowTransform row(blockIdx.x % (points / row_points), points);
  data += std::int64_t{blockIdx.x} * row_points;
  RowPoints x;
  if constexpr (back) {
#pragma unroll
    for (int i = 0; i < row_radix; ++i) x[i] = data[i * row_threads + threadIdx.x];
    row.store(x, data);
  } else {
    row.load(x, data);
#pragma unroll
    for (int i = 0; i < row_radix; ++i) data[i * row_threads + threadIdx.x] = x[i];
  }
}

/// `own`: the channel has a filter of its own; h holds its transformed columns and not its spectrum.
/// block: one row of one channel of one document
/// thread: 16 points of the row
template <class T, bool own>
__global__ void __launch_bounds__(row_threads, 3)
    convolve_row(RowBatch batch, FilterGroups groups, const Complex<float>* h, Skip<T> skip, const Complex<float>* x,
                 Complex<float>* to) {
  const std::int64_t columns = batch.points / row_points, k1 = blockIdx.x % columns,
                     channel = batch.first_channel + blockIdx.x / columns % batch.channels;
  h += (channel / groups.size - groups.first) * batch.points + k1 * row_points;
  x += std::int64_t{blockIdx.x} * row_points;
  to += std::int64_t{blockIdx.x} * row_points;
  const float skip_tap = skip(channel);
  const RowTransform row(k1, batch.points);
  RowPoints value;
  // A loop, so that the transform's instructions exist once.
#pragma unroll 1
  for (int pass = own ? 0 : 1; pass < 2; ++pass) {
    row.load(value, pass == 0 ? h : x);
    if (pass == 0) {
      // 1. The spectrum of the filter.
#pragma unroll
      for (int i = 0; i < row_radix; ++i) row.kept(i) = value[i];
      continue;
    }
    // 2. That of x, times the filter's.
#pragma unroll
    for (int i = 0; i < row_radix; ++i) {
      Complex<float> filter = own ? row.kept(i) : h[i * row_threads + threadIdx.x];
      filter.re += skip_tap;
      value[i] = value[i] * filter;
    }
    row.store(value, to);
  }
}

/// For filter groups with several rows. h and d_h are spectra.
/// block: row k1 of one filter group (blockIdx.x), for part blockIdx.y of the group's documents and channels, which it
///   goes over one after the other: the sum d_h has a fixed order
/// thread: 16 points of the row
/// registers: the points of dc; those of x are in storage.kept, d_h is in global memory
template <class T, bool output>
__global__ void __launch_bounds__(row_threads, 3)
    convolve_shared_row_backward(RowBatch batch, FilterGroups groups, const Complex<float>* h, Skip<T> skip,
                                 const Complex<float>* x, Complex<float>* dc, Complex<float>* y, bool accumulate,
                                 Complex<float>* d_h) {
  const std::int64_t columns = batch.points / row_points, k1 = blockIdx.x % columns, group = blockIdx.x / columns;
  const GroupRows rows(batch, groups, group, blockIdx.y, gridDim.y);
  h += group * batch.points + k1 * row_points;
  d_h += (blockIdx.y * groups.count + group) * batch.points + k1 * row_points;
  const RowTransform row(k1, batch.points);
  RowPoints value;
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    const std::int64_t channel = rows.first_channel + r % rows.channels,
                       at = (r / rows.channels * batch.channels + channel) * batch.points + k1 * row_points;
    const float skip_tap = skip(batch.first_channel + channel);
    const bool add = accumulate || r > rows.begin;
    // A loop, so that the transform's instructions exist once.
#pragma unroll 1
    for (int pass = 0; pass < 2; ++pass) {
      row.load(value, (pass == 0 ? x : dc) + at);
      if (pass == 0) {
        // 1. The spectrum of x.
#pragma unroll
        for (int i = 0; i < row_radix; ++i) row.kept(i) = value[i];
        continue;
      }
      // 2. That of dc; their products with each other and with the filter.
#pragma unroll
      for (int i = 0; i < row_radix; ++i) {
        const int point = i * row_threads + static_cast<int>(threadIdx.x);
        const Complex<float> input = row.kept(i), term = value[i] * conjugate(input);
        d_h[point] = add ? d_h[point] + term : term;
        Complex<float> filter = h[point];
        filter.re += skip_tap;
        if constexpr (output) row.kept(i) = input * filter;
        value[i] = value[i] * conjugate(filter);
      }
      row.store(value, dc + at);
    }
    if constexpr (output) {
#pragma unroll
      for (int i = 0; i < row_radix; ++i) value[i] = row.kept(i);
      row.store(value, y + at);
    }
  }
}

/// For channels with filters of their own, of which h and d_h hold the transformed columns, and one document.
/// block: row k1 of one channel
/// thread: 16 points of the row
/// registers: the points of one row; those of another are in storage.kept, x's with `output` also in y
template <class T, bool output>
__global__ void __launch_bounds__(row_threads, 3)
    convolve_own_row_backward(RowBatch batch, const Complex<float>* h, Skip<T> skip, const Complex<float>* x,
                              Complex<float>* dc, Complex<float>* y, Complex<float>* d_h) {
  const std::int64_t columns = batch.points / row_points, at = std::int64_t{blockIdx.x} * row_points;
  const float skip_tap = skip(batch.first_channel + blockIdx.x / columns);
  const RowTransform row(blockIdx.x % columns, batch.points);
  RowPoints value;
  // A loop, so that the transforms' instructions exist once: five copies would not fit the instruction cache.
#pragma unroll 1
  for (int pass = 0; pass < 3; ++pass) {
    row.load(value, (pass == 0 ? x : pass == 1 ? dc : h) + at);
    if (pass == 0) {
      // 1. The spectrum of x.
#pragma unroll
      for (int i = 0; i < row_radix; ++i) {
        row.kept(i) = value[i];
        if constexpr (output) y[at + i * row_threads + threadIdx.x] = value[i];
      }
      continue;
    }
    if (pass == 1) {
      // 2. The spectrum of dc, times conj(x): the filter's gradient.
#pragma unroll
      for (int i = 0; i < row_radix; ++i) {
        const Complex<float> input = row.kept(i);
        row.kept(i) = value[i];
        value[i] = value[i] * conjugate(input);
      }
    } else {
      // 3. The filter's spectrum, times dc: x's gradient; times x: the output.
#pragma unroll
      for (int i = 0; i < row_radix; ++i) {
        Complex<float> filter = value[i];
        filter.re += skip_tap;
        value[i] = row.kept(i) * conjugate(filter);
        if constexpr (output) row.kept(i) = y[at + i * row_threads + threadIdx.x] * filter;
      }
    }
    row.store(value, (pass == 1 ? d_h : dc) + at);
  }
  if constexpr (output) {
#pragma unroll
    for (int i = 0; i < row_radix; ++i) value[i] = row.kept(i);
    row.store(value, y + at);
  }
}

/// Launches a kernel of `grid` blocks with a RowStorage, without `kept` unless `keeps`.
template <class... Parameters, class... Arguments>
void launch_rows(const Stream& stream, void (*kernel)(Parameters...), dim3 grid, bool keeps,
                 const Arguments&... arguments) {
  const int bytes = static_cast<int>(keeps ? sizeof(RowStorage) : offsetof(RowStorage, kept));
  // More than 48 KiB of shared memory must be requested.
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  kernel<<<grid, row_threads, static_cast<std::size_t>(bytes), native_of(stream)>>>(arguments...);
  cuda_check(cudaGetLastError());
}

}  // namespace

void transform_filter_rows(const Stream& stream, std::int64_t points, std::int64_t filters, bool inverse,
                           Complex<float>* data) {
  const dim3 grid = grid_of(filters * (points / row_points));
  launch_rows(stream, inverse ? transform_filter_row<true> : transform_filter_row<false>, grid, false, points, data);
}

template <class T>
void convolve_rows(const Stream& stream, const RowBatch& batch, const FilterGroups& groups, const Complex<float>* h,
                   const Skip<T>& skip, const Complex<float>* x, Complex<float>* to) {
  const dim3 grid = grid_of(batch.rows() * (batch.points / row_points));
  launch_rows(stream, groups.own ? convolve_row<T, true> : convolve_row<T, false>, grid, groups.own, batch, groups, h,
              skip, x, to);
}

template <class T>
void convolve_rows_backward(const Stream& stream, const RowBatch& batch, const FilterGroups& groups,
                            const Complex<float>* h, const Skip<T>& skip, const Complex<float>* x, Complex<float>* dc,
                            Complex<float>* y, bool accumulate, std::int64_t parts, Complex<float>* d_h) {
  const unsigned rows = grid_of(groups.count * (batch.points / row_points));
  if (groups.own)
    return launch_rows(stream, y != nullptr ? convolve_own_row_backward<T, true> : convolve_own_row_backward<T, false>,
                       rows, true, batch, h, skip, x, dc, y, d_h);
  launch_rows(stream, y != nullptr ? convolve_shared_row_backward<T, true> : convolve_shared_row_backward<T, false>,
              dim3(rows, static_cast<unsigned>(parts)), true, batch, groups, h, skip, x, dc, y, accumulate, d_h);
}

#define CAUSEWAY_FFT_CONV_FOUR_STEP_ROWS(T)                                                                           \
  template void convolve_rows<T>(const Stream&, const RowBatch&, const FilterGroups&, const Complex<float>*,          \
                                 const Skip<T>&, const Complex<float>*, Complex<float>*);                             \
  template void convolve_rows_backward<T>(const Stream&, const RowBatch&, const FilterGroups&, const Complex<float>*, \
                                          const Skip<T>&, const Complex<float>*, Complex<float>*, Complex<float>*,    \
                                          bool, std::int64_t, Complex<float>*)
CAUSEWAY_FFT_CONV_FOUR_STEP_ROWS(float);
CAUSEWAY_FFT_CONV_FOUR_STEP_ROWS(bf16);

}  // namespace causeway::cuda

#pragma once

#include "kernels/cuda/fft_conv/fft_conv.cuh"

/// Transforms of rows of 64 to 512 complex points within a block of 256 threads. The points of a row are in shared
/// memory or in the registers of its N/16 threads, 16 in each.
namespace causeway::cuda {

constexpr int short_threads = 256, thread_points = 16;

/// Sizes for rows of N = 16 · 16 · last_radix points, or 16 · last_radix below 256. Before a forward transform thread r
/// of a row holds the points r + i N/16, i = 0 … 15. After it the thread holds the points 16 r + i of a spectrum whose
/// order does not matter.
template <int points_>
struct ShortTransform {
  static constexpr int points = points_;
  static constexpr int row_threads = points / thread_points;  ///< threads of a row
  static constexpr int rows = short_threads / row_threads;    ///< rows of a block
  static constexpr bool three_stages = points >= 256;
  static constexpr int last_radix = three_stages ? points / 256 : points / thread_points;
  static constexpr int pitch = points + points / thread_points;  ///< of a row in shared memory, with padding
};

/// Offset of point s of a row in shared memory. One padding point after every 16 avoids bank conflicts at all strides
/// that the stages use.
__device__ __forceinline__ int padded_offset(int s) { return s + s / thread_points; }

/// A thread's row in shared memory, and its rank among the threads of the row. S is a ShortTransform.
template <class S>
struct RowThread {
  Complex<float>* row;
  int rank, row_index;

  __device__ explicit RowThread(Complex<float>* storage)
      : rank(static_cast<int>(threadIdx.x) % S::row_threads),
        row_index(static_cast<int>(threadIdx.x) / S::row_threads) {
    row = storage + row_index * S::pitch;
  }
  /// x = the points first, first + stride, …
  __device__ __forceinline__ void get(Complex<float> (&x)[thread_points], int first, int stride) const {
#pragma unroll
    for (int i = 0; i < thread_points; ++i) x[i] = row[padded_offset(first + i * stride)];
  }
  __device__ __forceinline__ void put(const Complex<float> (&x)[thread_points], int first, int stride) const {
#pragma unroll
    for (int i = 0; i < thread_points; ++i) row[padded_offset(first + i * stride)] = x[i];
  }
};

/// Transforms each group of n neighbouring points of x.
template <int n, bool inverse>
__device__ __forceinline__ void dft_groups(Complex<float> (&x)[thread_points]) {
#pragma unroll
  for (int first = 0; first < thread_points; first += n) {
    Complex<float> group[n];
#pragma unroll
    for (int i = 0; i < n; ++i) group[i] = x[first + i];
    if constexpr (inverse)
      inverse_dft(group);
    else
      dft(group);
#pragma unroll
    for (int i = 0; i < n; ++i) x[first + i] = group[i];
  }
}

/// The multiple of π between the factors w^t of two points of a thread, which are N/16 apart.
constexpr float twiddle_step = 1.0f / (2 * thread_points);

/// Transforms a row from registers to registers. All threads of the block call it together. Before the call all threads
/// must have finished reading points of other threads from shared memory.
template <class S>
__device__ __forceinline__ void short_dft(Complex<float> (&x)[thread_points], const RowThread<S>& thread) {
  const int r = thread.rank;
  // 1. Radix 16.
  dft(x);
  multiply_by_powers(x, cis_pi(-2.0f * static_cast<float>(r) / S::points));
  thread.put(x, r, S::row_threads);
  __syncthreads();
  // 2. Radix 16 again, from 256 points on.
  if constexpr (S::three_stages) {
    const int first = r / S::last_radix * S::row_threads + r % S::last_radix;
    thread.get(x, first, S::last_radix);
    dft(x);
    if constexpr (S::last_radix > 1) {
      multiply_by_powers(x, cis_pi(-2.0f * static_cast<float>(r % S::last_radix) / S::row_threads));
      thread.put(x, first, S::last_radix);
      __syncthreads();
    }
  }
  // 3. The last radix.
  if constexpr (!S::three_stages || S::last_radix > 1) {
    thread.get(x, thread_points * r, 1);
    dft_groups<S::last_radix, false>(x);
  }
}

/// The inverse of short_dft, times N, under the same conditions.
template <class S>
__device__ __forceinline__ void inverse_short_dft(Complex<float> (&x)[thread_points], const RowThread<S>& thread) {
  const int r = thread.rank;
  // 1. The last radix.
  if constexpr (!S::three_stages || S::last_radix > 1) {
    dft_groups<S::last_radix, true>(x);
    thread.put(x, thread_points * r, 1);
    __syncthreads();
  }
  // 2. Radix 16, from 256 points on.
  if constexpr (S::three_stages) {
    const int first = r / S::last_radix * S::row_threads + r % S::last_radix;
    if constexpr (S::last_radix > 1) {
      thread.get(x, first, S::last_radix);
      multiply_by_powers(x, cis_pi(2.0f * static_cast<float>(r % S::last_radix) / S::row_threads));
    }
    inverse_dft(x);
    thread.put(x, first, S::last_radix);
    __syncthreads();
  }
  // 3. Radix 16.
  thread.get(x, r, S::row_threads);
  multiply_by_powers(x, cis_pi(2.0f * static_cast<float>(r) / S::points));
  inverse_dft(x);
}

/// x = F U of the row in shared memory, whose points all threads must have stored.
template <class S>
__device__ __forceinline__ void to_spectrum(Complex<float> (&x)[thread_points], const RowThread<S>& thread) {
  thread.get(x, thread.rank, S::row_threads);
  multiply_by_powers(x, cis_pi(static_cast<float>(thread.rank) / (2 * S::points)), cis_pi(twiddle_step));
  short_dft(x, thread);
}

/// The row in shared memory = U* F* x / N. All threads of the block have stored their points when it returns.
template <class S>
__device__ __forceinline__ void from_spectrum(Complex<float> (&x)[thread_points], const RowThread<S>& thread) {
  inverse_short_dft(x, thread);
  Complex<float> first = cis_pi(-static_cast<float>(thread.rank) / (2 * S::points));
  first = {first.re / S::points, first.im / S::points};
  multiply_by_powers(x, first, cis_pi(-twiddle_step));
  thread.put(x, thread.rank, S::row_threads);
  __syncthreads();
}

/// Calls body<ShortTransform<points>>().
template <class Body>
void with_short_transform(std::int64_t points, const Body& body) {
  switch (points) {
    case 64:
      return body.template operator()<ShortTransform<64>>();
    case 128:
      return body.template operator()<ShortTransform<128>>();
    case 256:
      return body.template operator()<ShortTransform<256>>();
    case 512:
      return body.template operator()<ShortTransform<512>>();
    default:
      fail(ExitCode::internal, "fft_conv: no transform of {} points within a block", points);
  }
}

}  // namespace causeway::cuda

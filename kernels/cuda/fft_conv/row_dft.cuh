#pragma once

#include <cstdint>

#include "kernels/cuda/fft_conv/small_dft.cuh"

/// Transforms of 4096 = 16³ complex points by a block of 256 threads; each thread holds 16 points in registers.
///
/// Before the forward transform thread r = 16b + c holds the points x[256a + r], a = 0 … 15. After it thread
/// r = 16 k0 + k1 holds the frequencies k0 + 16 k1 + 256 k2, k2 = 0 … 15. The inverse transform goes the opposite way.
/// The frequencies are never sorted: spectra are multiplied point by point, in any order.
namespace causeway::cuda {

constexpr int row_points = 4096, row_threads = 256, row_radix = 16, row_pitch = row_radix + 1;

/// Shared memory [16, 16, 17] through which the threads of a block exchange points. The padding avoids bank
/// conflicts: the 16 points of an access are neighbours, or are 17 points apart.
using RowExchange = Complex<float>[row_radix * row_radix * row_pitch];

/// A thread's twiddle factors, the same for all rows that its block transforms: `first` multiplies the thread's points
/// after the first stage, the powers of `block` and `warp` are those of the stages. The factor `first`, which does not
/// depend on a, commutes with the first stage; so factors first · g(a) of the points cost one multiplication by g(a).
struct RowTwiddles {
  Complex<float> first, block, warp;

  __device__ explicit RowTwiddles(Complex<float> first_)
      : first(first_),
        block(cis_pi(-2.0f * static_cast<float>(threadIdx.x) / row_points)),
        warp(cis_pi(-2.0f * static_cast<float>(threadIdx.x % row_radix) / (row_radix * row_radix))) {}

  /// The same values, which the compiler takes for others. Otherwise it computes the powers once for all transforms of
  /// a kernel and keeps them in local memory.
  __device__ RowTwiddles hidden() const {
    RowTwiddles same = *this;
    for (Complex<float>* w : {&same.first, &same.block, &same.warp}) asm volatile("" : "+f"(w->re), "+f"(w->im));
    return same;
  }
};

__device__ __forceinline__ void row_dft(Complex<float> (&x)[row_radix], const RowTwiddles& twiddles,
                                        RowExchange& exchange) {
  const int thread = static_cast<int>(threadIdx.x), high = thread / row_radix, low = thread % row_radix;
  // 1. Radix 16 over a, then exchange over the whole block.
  dft(x);
  multiply_by_powers(x, twiddles.first, twiddles.block);
  __syncthreads();  // all threads have finished reading for the transform before
#pragma unroll
  for (int k = 0; k < row_radix; ++k) exchange[(k * row_radix + high) * row_pitch + low] = x[k];
  __syncthreads();
  // 2. Radix 16 over b. From here on the 16 threads with equal `high` exchange among themselves; they are in one warp.
#pragma unroll
  for (int b = 0; b < row_radix; ++b) x[b] = exchange[(high * row_radix + b) * row_pitch + low];
  dft(x);
  multiply_by_powers(x, twiddles.warp);
  __syncwarp();
#pragma unroll
  for (int k = 0; k < row_radix; ++k) exchange[(high * row_radix + k) * row_pitch + low] = x[k];
  __syncwarp();
  // 3. Radix 16 over c.
#pragma unroll
  for (int c = 0; c < row_radix; ++c) x[c] = exchange[(high * row_radix + low) * row_pitch + c];
  dft(x);
}

/// The inverse of row_dft, times 4096: the same three stages in the opposite order.
__device__ __forceinline__ void inverse_row_dft(Complex<float> (&x)[row_radix], const RowTwiddles& twiddles,
                                                RowExchange& exchange) {
  const int thread = static_cast<int>(threadIdx.x), high = thread / row_radix, low = thread % row_radix;
  // 1. Radix 16 over c.
  inverse_dft(x);
  __syncthreads();  // all threads have finished reading for the transform before
#pragma unroll
  for (int c = 0; c < row_radix; ++c) exchange[(high * row_radix + low) * row_pitch + c] = x[c];
  __syncwarp();
  // 2. Radix 16 over b.
#pragma unroll
  for (int k = 0; k < row_radix; ++k) x[k] = exchange[(high * row_radix + k) * row_pitch + low];
  multiply_by_powers(x, conjugate(twiddles.warp));
  inverse_dft(x);
  __syncwarp();
#pragma unroll
  for (int b = 0; b < row_radix; ++b) exchange[(high * row_radix + b) * row_pitch + low] = x[b];
  __syncthreads();
  // 3. Radix 16 over a.
#pragma unroll
  for (int k = 0; k < row_radix; ++k) x[k] = exchange[(k * row_radix + high) * row_pitch + low];
  multiply_by_powers(x, conjugate(twiddles.first), conjugate(twiddles.block));
  inverse_dft(x);
}

}  // namespace causeway::cuda

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

__device__ __forceinline__ void row_dft(Complex<float> (&x)[row_radix], RowExchange& exchange) {
  const int thread = static_cast<int>(threadIdx.x), high = thread / row_radix, low = thread % row_radix;
  __syncthreads();  // all threads have finished reading for the transform before
  // 1. Radix 16 over a, then exchange over the whole block.
  dft(x);
  multiply_by_powers(x, cis_pi(-2.0f * static_cast<float>(thread) / row_points));
#pragma unroll
  for (int k = 0; k < row_radix; ++k) exchange[(k * row_radix + high) * row_pitch + low] = x[k];
  __syncthreads();
  // 2. Radix 16 over b. From here on the 16 threads with equal `high` exchange among themselves; they are in one warp.
#pragma unroll
  for (int b = 0; b < row_radix; ++b) x[b] = exchange[(high * row_radix + b) * row_pitch + low];
  dft(x);
  multiply_by_powers(x, cis_pi(-2.0f * static_cast<float>(low) / (row_radix * row_radix)));
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
__device__ __forceinline__ void inverse_row_dft(Complex<float> (&x)[row_radix], RowExchange& exchange) {
  const int thread = static_cast<int>(threadIdx.x), high = thread / row_radix, low = thread % row_radix;
  __syncthreads();  // all threads have finished reading for the transform before
  // 1. Radix 16 over c.
  inverse_dft(x);
#pragma unroll
  for (int c = 0; c < row_radix; ++c) exchange[(high * row_radix + low) * row_pitch + c] = x[c];
  __syncwarp();
  // 2. Radix 16 over b.
#pragma unroll
  for (int k = 0; k < row_radix; ++k) x[k] = exchange[(high * row_radix + k) * row_pitch + low];
  multiply_by_powers(x, cis_pi(2.0f * static_cast<float>(low) / (row_radix * row_radix)));
  inverse_dft(x);
  __syncwarp();
#pragma unroll
  for (int b = 0; b < row_radix; ++b) exchange[(high * row_radix + b) * row_pitch + low] = x[b];
  __syncthreads();
  // 3. Radix 16 over a.
#pragma unroll
  for (int k = 0; k < row_radix; ++k) x[k] = exchange[(k * row_radix + high) * row_pitch + low];
  multiply_by_powers(x, cis_pi(2.0f * static_cast<float>(thread) / row_points));
  inverse_dft(x);
}

}  // namespace causeway::cuda

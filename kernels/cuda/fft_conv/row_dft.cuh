#pragma once

#include <cstdint>

#include "kernels/cuda/fft_conv/small_dft.cuh"

/// Transforms of 4096 = 16³ numbers by a block of 256 threads, 16 numbers in each one's registers.
///
/// Thread r = 16b + c comes with the numbers x[256a + r], a = 0 … 15, and leaves with the frequencies k0 + 16 k1 +
/// 256 k2, k2 = 0 … 15, where r = 16 k0 + k1; the inverse goes the other way. Nothing ever needs them in order: spectra
/// are multiplied where they stand.
namespace causeway::cuda {

constexpr int row_points = 4096, row_threads = 256, row_radix = 16, row_pitch = row_radix + 1;

/// Shared memory of a block: [16, 16, 17] numbers; every access is of 16 neighbours, or 17 apart.
using RowExchange = Complex<float>[row_radix * row_radix * row_pitch];

__device__ __forceinline__ void row_forward(Complex<float> (&x)[row_radix], RowExchange& exchange) {
  const int own = static_cast<int>(threadIdx.x), high = own / row_radix, low = own % row_radix;
  __syncthreads();  // the last transform's readers are done
  dft(x);
  multiply_by_powers(x, unit(-2.0f * static_cast<float>(own) / row_points));
#pragma unroll
  for (int k = 0; k < row_radix; ++k) exchange[(k * row_radix + high) * row_pitch + low] = x[k];
  __syncthreads();
  // From here on the 16 threads of one `high` are among themselves, in one warp.
#pragma unroll
  for (int b = 0; b < row_radix; ++b) x[b] = exchange[(high * row_radix + b) * row_pitch + low];
  dft(x);
  multiply_by_powers(x, unit(-2.0f * static_cast<float>(low) / (row_radix * row_radix)));
  __syncwarp();
#pragma unroll
  for (int k = 0; k < row_radix; ++k) exchange[(high * row_radix + k) * row_pitch + low] = x[k];
  __syncwarp();
#pragma unroll
  for (int c = 0; c < row_radix; ++c) x[c] = exchange[(high * row_radix + low) * row_pitch + c];
  dft(x);
}

/// Times 4096.
__device__ __forceinline__ void row_inverse(Complex<float> (&x)[row_radix], RowExchange& exchange) {
  const int own = static_cast<int>(threadIdx.x), high = own / row_radix, low = own % row_radix;
  __syncthreads();
  dft_towards<true>(x);
#pragma unroll
  for (int c = 0; c < row_radix; ++c) exchange[(high * row_radix + low) * row_pitch + c] = x[c];
  __syncwarp();
#pragma unroll
  for (int k = 0; k < row_radix; ++k) x[k] = exchange[(high * row_radix + k) * row_pitch + low];
  multiply_by_powers(x, unit(2.0f * static_cast<float>(low) / (row_radix * row_radix)));
  dft_towards<true>(x);
  __syncwarp();
#pragma unroll
  for (int b = 0; b < row_radix; ++b) exchange[(high * row_radix + b) * row_pitch + low] = x[b];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < row_radix; ++k) x[k] = exchange[(k * row_radix + high) * row_pitch + low];
  multiply_by_powers(x, unit(2.0f * static_cast<float>(own) / row_points));
  dft_towards<true>(x);
}

}  // namespace causeway::cuda

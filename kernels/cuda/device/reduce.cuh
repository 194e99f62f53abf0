#pragma once

#include <cstdint>

#include "kernels/cuda/device/elementwise.cuh"

/// Reductions over the lanes of a warp, the threads of a block and the rows of a matrix. The order of the additions is
/// fixed, so every run gives the same bits.
namespace causeway::cuda {

/// The x of the lane whose number differs by the bits of `distance`. A whole warp calls it together.
__device__ inline float shuffle_xor(float x, int distance) { return __shfl_xor_sync(~0u, x, distance); }
__device__ inline double shuffle_xor(double x, int distance) { return __shfl_xor_sync(~0u, x, distance); }

struct Add {
  template <class R>
  __device__ R operator()(R a, R b) const {
    return a + b;
  }
};

/// Reduces x over each group of `lanes` neighbouring lanes; every lane of a group receives the result. `lanes` is a
/// power of two, `combine` is commutative. A butterfly: lanes at distance lanes/2 first, neighbours last. A whole warp
/// calls it together.
template <class R, class Combine = Add>
__device__ R reduce_lanes(R x, int lanes = 32, const Combine& combine = {}) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) x = combine(x, shuffle_xor(x, distance));
  return x;
}

/// The smallest power of two of lanes that has a lane for each of `packets` packets; at most 32.
inline int lanes_for(std::int64_t packets) {
  int lanes = 1;
  while (lanes < 32 && lanes < packets) lanes *= 2;
  return lanes;
}

/// The threads that share a row ("team"): one warp, with 8 teams in a block, or a whole block. A team is a row of
/// threads of the block: threadIdx.y is the team, threadIdx.x the thread within it.
struct RowTeams {
  unsigned threads;   ///< threads of a team
  unsigned in_block;  ///< teams in a block

  /// For rows of `packets` packets, of which a thread keeps `kept` in registers.
  RowTeams(std::int64_t packets, int kept, unsigned most = 1024) : threads(32) {
    while (std::int64_t{threads} * kept < packets && threads < most) threads *= 2;
    in_block = threads == 32 ? 8 : 1;
  }
  dim3 block() const { return dim3(threads, in_block); }
  dim3 grid(std::int64_t teams) const { return dim3(grid_of(teams, in_block)); }
};

/// Reduces x over the threads of a team; every thread receives the result. First the lanes of each warp, then the warps
/// in their order, through shared memory. All threads of the block call it together.
template <class R, class Combine = Add>
__device__ R reduce_team(R x, const Combine& combine = {}) {
  x = reduce_lanes(x, 32, combine);
  if (blockDim.x == 32) return x;
  __shared__ alignas(alignof(R)) unsigned char storage[32 * sizeof(R)];  // bytes, because R may have a constructor
  R* const of_warp = reinterpret_cast<R*>(storage);
  __syncthreads();  // all threads have read the results of the previous call
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  x = of_warp[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) x = combine(x, of_warp[warp]);
  return x;
}

/// y[column] += Σ_row x[row, column], summed in float64.
///
/// block: 32 columns and all rows, 32 by 32 threads
/// warp: first phase: rows y, y + 32, … of the 32 columns; second phase: one column
/// thread: first phase: one column of these rows; second phase: one of the 32 sums of the warp's column
/// shared memory: the 32 sums of 32 columns, padded against bank conflicts
template <class R>
__global__ void __launch_bounds__(1024) column_sums(const R* x, std::int64_t rows, std::int64_t columns, R* y) {
  // 1. Sum the rows of each warp.
  __shared__ double sums[32][33];
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  double sum = 0;
  if (column < columns)
    for (std::int64_t row = threadIdx.y; row < rows; row += 32) sum += static_cast<double>(x[row * columns + column]);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  // 2. Add the sums of the warps: each warp one column.
  sum = reduce_lanes(sums[threadIdx.x][threadIdx.y]);
  const std::int64_t summed = std::int64_t{blockIdx.x} * 32 + threadIdx.y;
  if (threadIdx.x == 0 && summed < columns) y[summed] += static_cast<R>(sum);
}

/// y += the sums of the columns of the dense matrix x.
template <class R>
void add_column_sums(const Stream& stream, TensorView x, R* y) {
  if (x.size() == 0) return;
  column_sums<R><<<grid_of(x.columns(), 32), dim3(32, 32), 0, native_of(stream)>>>(static_cast<const R*>(x.data),
                                                                                   x.rows(), x.columns(), y);
  cuda_check(cudaGetLastError());
}

}  // namespace causeway::cuda

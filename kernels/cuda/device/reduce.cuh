#pragma once

#include <cstdint>

#include "kernels/cuda/device/elementwise.cuh"

/// Sums over the lanes of a warp and the threads of a block, always in the same order: the same bits each time.
namespace causeway::cuda {

__device__ inline float shuffle_xor(float x, int distance) { return __shfl_xor_sync(~0u, x, distance); }
__device__ inline double shuffle_xor(double x, int distance) { return __shfl_xor_sync(~0u, x, distance); }

struct Add {
  template <class R>
  __device__ R operator()(R a, R b) const {
    return a + b;
  }
};

/// Over each `lanes` neighbouring lanes, a power of two, for every one of them. A whole warp calls it together;
/// `combine` commutes.
template <class R, class Combine = Add>
__device__ R reduce_lanes(R x, int lanes = 32, const Combine& combine = {}) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) x = combine(x, shuffle_xor(x, distance));
  return x;
}

/// The fewest lanes, a power of two, that take `packets` packets at once; at most a warp.
inline int lanes_for(std::int64_t packets) {
  int lanes = 1;
  while (lanes < 32 && lanes < packets) lanes *= 2;
  return lanes;
}

/// The threads that share a row: a warp, several of which make a block, or a whole block of more.
struct RowTeams {
  unsigned threads, in_block;

  /// For rows of `packets` packets of which a thread keeps `kept` in registers.
  RowTeams(std::int64_t packets, int kept, unsigned most = 1024) : threads(32) {
    while (std::int64_t{threads} * kept < packets && threads < most) threads *= 2;
    in_block = threads == 32 ? 8 : 1;
  }
  dim3 block() const { return dim3(threads, in_block); }
  dim3 grid(std::int64_t teams) const { return dim3(grid_of(teams, in_block)); }
};

/// Over a row's team, for every thread of it. All threads of the block call it together.
template <class R, class Combine = Add>
__device__ R reduce_team(R x, const Combine& combine = {}) {
  x = reduce_lanes(x, 32, combine);
  if (blockDim.x == 32) return x;
  __shared__ alignas(alignof(R)) unsigned char storage[32 * sizeof(R)];  // raw: R may have a constructor
  R* const of_warp = reinterpret_cast<R*>(storage);
  __syncthreads();  // the last call's readers are done
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  x = of_warp[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) x = combine(x, of_warp[warp]);
  return x;
}

/// y[column] += Σ_row x[row, column] in float64; a block sums 32 columns.
template <class R>
__global__ void __launch_bounds__(1024) column_sums(const R* x, std::int64_t rows, std::int64_t columns, R* y) {
  __shared__ double sums[32][33];
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  double sum = 0;
  if (column < columns)
    for (std::int64_t row = threadIdx.y; row < rows; row += 32) sum += static_cast<double>(x[row * columns + column]);
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  sum = reduce_lanes(sums[threadIdx.x][threadIdx.y]);  // a warp a column
  const std::int64_t summed = std::int64_t{blockIdx.x} * 32 + threadIdx.y;
  if (threadIdx.x == 0 && summed < columns) y[summed] += static_cast<R>(sum);
}

template <class R>
void add_column_sums(const Stream& stream, TensorView x, R* y) {
  if (x.size() == 0) return;
  column_sums<R><<<grid_of(x.columns(), 32), dim3(32, 32), 0, native_of(stream)>>>(static_cast<const R*>(x.data),
                                                                                   x.rows(), x.columns(), y);
  cuda_check(cudaGetLastError());
}

}  // namespace causeway::cuda

#pragma once

#include <cstdint>

#include "kernels/cuda/device/elementwise.cuh"

/// Sums of partial results. Kernels that sum over tokens write one partial sum per chunk ("part") to scratch memory,
/// and one of the functions below adds the parts. There are no atomics: the order of the additions depends on the
/// shape only, so every run gives the same bits.
namespace causeway::cuda {

/// block: 32 columns of one row, 8 warps; grid: columns / 32 by rows
/// warp: y of the block; adds the parts y, y + 8, y + 16, …; its lanes are neighbouring columns
/// thread: one column; the threads of warp 0 then add the sums of the 8 warps in the order of y
/// shared memory: the 8 by 32 sums of the warps
/// registers: one float64 sum
template <class R, class Target>
__global__ void __launch_bounds__(256)
    add_parts_by_warps_kernel(const R* parts, std::int64_t count, std::int64_t columns, Target target) {
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + threadIdx.x, rows = gridDim.y;
  const int row = static_cast<int>(blockIdx.y);
  __shared__ double shared[8][32];
  double sum = 0;
  if (column < columns)
    for (std::int64_t part = threadIdx.y; part < count; part += 8)
      sum += static_cast<double>(parts[(part * rows + row) * columns + column]);
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int warp = 1; warp < 8; ++warp) sum += shared[warp][threadIdx.x];
  target.add(row, column, sum);
}

/// Adds `parts` [count, rows, columns] over the parts in float64: each of 8 warps adds every eighth part, then the
/// sums of the warps are added in their order. Calls target.add(row, column, sum) once for each element. `target` is a
/// struct with a const __device__ function `add`. rows ≤ 65535. Suits many parts of few elements.
template <class R, class Target>
void add_parts_by_warps(const Stream& stream, const R* parts, std::int64_t count, std::int64_t rows,
                        std::int64_t columns, const Target& target) {
  if (rows == 0 || columns == 0) return;
  add_parts_by_warps_kernel<<<dim3(grid_of(columns, 32), grid_of(rows)), dim3(32, 8), 0, native_of(stream)>>>(
      parts, count, columns, target);
  cuda_check(cudaGetLastError());
}

/// block: 256 neighbouring elements
/// thread: one element; adds its parts one after the other
/// registers: one sum of type Sum
template <class Sum, class R, class Target>
__global__ void __launch_bounds__(256)
    add_parts_in_order_kernel(const R* parts, std::int64_t count, std::int64_t size, Target target) {
  const std::int64_t element = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (element >= size) return;
  Sum sum = target.start(element);
#pragma unroll 8
  for (std::int64_t part = 0; part < count; ++part) sum += static_cast<Sum>(parts[part * size + element]);
  target.store(element, sum);
}

/// Adds `parts` [count, size] over the parts, one after the other in their order, in the type Sum. The sum of an
/// element begins with target.start(element); the result goes to target.store(element, sum). `target` is a struct with
/// these two const __device__ functions. Suits few parts of many elements.
template <class Sum, class R, class Target>
void add_parts_in_order(const Stream& stream, const R* parts, std::int64_t count, std::int64_t size,
                        const Target& target) {
  if (size == 0) return;
  add_parts_in_order_kernel<Sum><<<grid_of(size, 256), 256, 0, native_of(stream)>>>(parts, count, size, target);
  cuda_check(cudaGetLastError());
}

}  // namespace causeway::cuda

#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/core/tensor.hpp"
#include "kernels/cuda/device/barrier.cuh"

/// Bulk copies of boxes of a matrix between global and shared memory (PTX's cp.async.bulk.tensor, "TMA"), on sm_90 and
/// newer. One thread starts a copy of a whole box, and a barrier in shared memory counts the bytes that arrive. What
/// lies outside of the matrix, before its first row or column too, is read as zeros and not written.
namespace causeway::cuda {

/// What a bulk copy knows of a matrix. A kernel takes it as a __grid_constant__ argument.
using TensorMap = CUtensorMap;

/// The map of a matrix of bf16 for boxes of [box_rows, box_columns], each at most 256. With `swizzle` a box has 64
/// columns, and the parts of 16 bytes of its row r are permuted: part p is at p ^ (r % 8). Its shared memory is aligned
/// to 1024 bytes then, else to 128. x is as can_be_mapped() asks. Throws Error if the driver refuses.
TensorMap tensor_map(TensorView x, int box_rows, int box_columns, bool swizzle);
/// Whether bulk copies can access a matrix: bf16, and rows of whole packets of 16 bytes that start at such packets.
bool can_be_mapped(TensorView x);
/// Of the current device: 90 for compute capability 9.0. Bulk copies need 90 or more. 90 without a GPU.
int compute_capability();

/// The phase of `full` completes only when this thread has arrived here and `bytes` bytes have been copied too.
__device__ inline void arrive_expecting(SharedBarrier& full, unsigned bytes) {
  asm volatile(
      "{.reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;}" ::"r"(shared_address(&full.word)),
      "r"(bytes)
      : "memory");
}
/// By the thread that initialized barriers for bulk copies, before a __syncthreads().
__device__ inline void fence_barrier_initialization() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/// Makes what this thread wrote to shared memory visible to bulk copies.
__device__ inline void fence_bulk_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Starts a copy of the box whose first element is at [row, column] to shared memory; its bytes arrive at `full`.
__device__ inline void load_box(void* to, const TensorMap& map, int column, int row, SharedBarrier& full) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::
          "r"(shared_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(&full.word))
      : "memory");
}
/// Brings a box to the L2 cache.
__device__ inline void prefetch_box(const TensorMap& map, int column, int row) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(&map), "r"(column), "r"(row)
               : "memory");
}
/// Starts a copy from shared memory.
__device__ inline void store_box(const TensorMap& map, const void* from, int column, int row) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map),
               "r"(column), "r"(row), "r"(shared_address(from))
               : "memory");
}
/// Puts this thread's stores since the last commit into one group.
__device__ inline void commit_box_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Waits until all but the latest `open` groups of stores have read their shared memory.
template <int open>
__device__ inline void wait_for_box_reads() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(open) : "memory");
}
/// Waits until all stores of this thread are complete.
__device__ inline void wait_for_box_stores() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

}  // namespace causeway::cuda

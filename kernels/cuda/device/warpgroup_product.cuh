#pragma once

#include <cstdint>

#include "kernels/cuda/device/tensor_core.cuh"

/// The bf16 tensor core product of a warpgroup, four neighbouring warps of a block: PTX's wgmma, on sm_90a only. A and
/// B are in shared memory, C in registers.
///
/// An operand without swizzle consists of 8×8 matrices of 128 consecutive bytes: 8 rows of 8 values along k. Rows are
/// those of A, or columns of B. Matrices that follow each other along the rows are 128 bytes apart; those that follow
/// each other along k are `k_stride` bytes apart.
///
/// C [64, n], float32: lane 4g + t of warp w holds, for each i < n / 8,
///   c[4i], c[4i+1]    row 16w + g,      columns 8i + 2t, 8i + 2t + 1
///   c[4i+2], c[4i+3]  row 16w + g + 8,  the same columns
namespace causeway::cuda {

/// The operand whose first matrices are at the shared-memory address `address`, a multiple of 16.
__device__ inline std::uint64_t wgmma_operand(unsigned address, unsigned k_stride) {
  return std::uint64_t{(address & 0x3ffff) >> 4} | std::uint64_t{k_stride >> 4} << 16 | std::uint64_t{128 >> 4} << 32;
}

/// Orders this thread's accesses to the registers of C before the products that follow.
__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Puts the products since the last commit into one group.
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until all groups are complete; `c` may be used from then on.
template <int count>
__device__ inline void wgmma_wait(float (&c)[count]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(c[i])::"memory");
}
/// Makes this thread's writes to shared memory visible to later products; a barrier must follow.
__device__ inline void fence_shared_memory_for_wgmma() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Starts c += a b for [64, 16] by [16, 32]. All threads of a warpgroup call it together.
__device__ inline void wgmma_64x32x16(float (&c)[16], std::uint64_t a, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, %16, %17, 1, 1, 1, 0, 0;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]),
        "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15])
      : "l"(a), "l"(b));
}

/// Transposes an 8×8 matrix of 16-bit values that the warp holds: lane 4r + c has elements 2c, 2c+1 of row r.
__device__ inline std::uint32_t transposed_8x8(std::uint32_t pair) {
  std::uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(pair));
  return y;
}

}  // namespace causeway::cuda

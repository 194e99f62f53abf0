#pragma once

#include <cuda_bf16.h>

#include <cstdint>

/// The instructions around a warp's bf16 matrix product m16n8k16, A [16, 16] by rows, B [16, 8] by columns, C [16, 8]
/// in float32. Lane 4g + t holds of A rows g and g + 8 at columns 2t, 2t + 1 and the same + 8 (registers 0 to 3: rows
/// first), of B rows 2t, 2t + 1 and the same + 8 at column g, of C rows g and g + 8 at columns 2t, 2t + 1. sm_80 and
/// newer.
namespace causeway::cuda {

__device__ inline unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

/// Four 8×8 matrices of bf16 from shared memory, lanes 8i … 8i + 7 naming the rows of matrix i; with `transposed` a
/// lane gets pairs down the columns.
template <bool transposed>
__device__ inline void ldmatrix_x4(std::uint32_t (&to)[4], unsigned address) {
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

/// The inverse of ldmatrix_x4<true>.
__device__ inline void stmatrix_x4_transposed(unsigned address, const std::uint32_t (&from)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(from[0]),
               "r"(from[1]), "r"(from[2]), "r"(from[3])
               : "memory");
#else
  const unsigned lane = threadIdx.x % 32;
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    std::uint32_t row;  // lane 4r + c: elements 2c, 2c + 1 of row r
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(row) : "r"(from[i]));
    const unsigned to = __shfl_sync(~0u, address, static_cast<int>(8 * i + lane / 4)) + lane % 4 * 4;
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(row) : "memory");
  }
#endif
}

/// c += a b.
__device__ inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Two bf16 in one register, the first in its lower half.
__device__ inline float low_bf16(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_bf16(std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ inline std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
/// Each product rounded once.
__device__ inline std::uint32_t multiply_bf16_pairs(std::uint32_t a, std::uint32_t b) {
  const __nv_bfloat162 pair =
      __hmul2_rn(*reinterpret_cast<const __nv_bfloat162*>(&a), *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

/// Copies 16 bytes to shared memory in the background, or writes zeros there; the line's neighbours come into L2 as
/// well.
__device__ inline void copy_16_bytes_async(unsigned to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void commit_async_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until all but the latest `open` closed groups of this thread's copies have arrived.
template <int open>
__device__ inline void wait_for_async_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
}
/// As copy_16_bytes_async, 4 bytes.
__device__ inline void copy_4_bytes_async(unsigned to, const void* from, bool there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(there ? 4 : 0) : "memory");
}
/// Until all of this thread's copies have arrived, closed or not.
__device__ inline void wait_for_all_async_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace causeway::cuda

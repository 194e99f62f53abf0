#pragma once

#include <cuda_bf16.h>

#include <cstdint>

/// The instructions for the bf16 tensor core product C += A B of a warp, PTX's m16n8k16, on sm_80 and newer. Two bf16
/// share a 32-bit register, the first in the lower half. Lane 4g + t (g = 0 … 7, t = 0 … 3) holds these elements:
///
///   A [16, 16], bf16     a[0]  row g,      columns 2t, 2t+1         a[1]  row g+8,  columns 2t, 2t+1
///                        a[2]  row g,      columns 2t+8, 2t+9       a[3]  row g+8,  columns 2t+8, 2t+9
///   B [16, 8], bf16      b0    column g,   rows 2t, 2t+1            b1    column g, rows 2t+8, 2t+9
///   C [16, 8], float32   c[0], c[1]  row g,  columns 2t, 2t+1       c[2], c[3]  row g+8, columns 2t, 2t+1
///
/// So the C of one product, rounded to bf16 in pairs, is the left or right half of the A of another one.
namespace causeway::cuda {

/// The address of `at` within shared memory, as the instructions below take it.
__device__ inline unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

/// Loads four 8×8 matrices of bf16 from shared memory, matrix i into to[i]. Lane 8i + r gives the address of row r of
/// matrix i, 16 bytes. Lane 4g + t receives elements 2t, 2t+1 of row g; with `transposed`, rows 2t, 2t+1 of column g.
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

/// Stores four 8×8 matrices to shared memory: the inverse of ldmatrix_x4<true>. One instruction on sm_90 and newer.
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

/// c += a b, in the layouts above. A whole warp calls it together.
__device__ inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// The first and the second of two bf16 in one register.
__device__ inline float low_bf16(std::uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_bf16(std::uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
/// Two floats, each rounded to bf16, in one register.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
/// The products of the first and of the second elements, each rounded once.
__device__ inline std::uint32_t multiply_bf16_pairs(std::uint32_t a, std::uint32_t b) {
  const __nv_bfloat162 pair =
      __hmul2_rn(*reinterpret_cast<const __nv_bfloat162*>(&a), *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

/// Starts an asynchronous copy of 16 bytes from global to shared memory; writes zeros if `valid` is false, but `from`
/// must be a valid address even then. Fetches 128 bytes around `from` into the L2 cache.
__device__ inline void copy_16_bytes_async(unsigned to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
/// Puts this thread's copies since the last commit into one group.
__device__ inline void commit_async_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until all but the latest `open` committed groups of this thread's copies are complete.
template <int open>
__device__ inline void wait_for_async_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
}
/// The same for 4 bytes.
__device__ inline void copy_4_bytes_async(unsigned to, const void* from, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(valid ? 4 : 0) : "memory");
}
/// Waits until all copies of this thread are complete, committed or not.
__device__ inline void wait_for_all_async_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace causeway::cuda

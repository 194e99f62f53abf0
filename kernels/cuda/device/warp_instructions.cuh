#pragma once

#include <cstdint>

/// Instructions of a warp or a warpgroup that C++ has no name for.
namespace causeway::cuda {

/// A matrix of 8 by 8 bf16, transposed. Lane 4g + t holds elements 2t, 2t+1 of row g. A warp calls it together.
__device__ inline std::uint32_t transpose_8x8(std::uint32_t x) {
  std::uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

/// Stores two 8×8 matrices, transposed, to shared memory; lanes 0 to 15 have the addresses of their rows. Only on sm_90
/// and newer.
__device__ inline void stmatrix_x2_transposed(unsigned address, std::uint32_t first, std::uint32_t second) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(address), "r"(first), "r"(second)
               : "memory");
#endif
}

/// The registers of each thread of this warpgroup (4 warps, of which the first has an index that is a multiple of 4)
/// from now on; all of its threads call it. What one warpgroup of a block gives away, another one can take. Only in
/// code for sm_90a.
template <int count>
__device__ inline void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ inline void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

/// Four bytes of shared memory.
__device__ inline std::uint32_t load_word(unsigned address) {
  std::uint32_t x;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(address) : "memory");
  return x;
}

/// The lower 16 bits of x to shared memory.
__device__ inline void store_half_word(unsigned address, std::uint32_t x) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(address), "h"(static_cast<std::uint16_t>(x)) : "memory");
}

}  // namespace causeway::cuda

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

}  // namespace causeway::cuda

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device/tensor_core.cuh"

/// Barriers between some of the warps of a thread block, for warps that produce and warps that consume.
namespace causeway::cuda {

/// A barrier in shared memory (PTX's mbarrier). Its phases count from 0; a phase completes when `arrivals` threads have
/// arrived. What they wrote to shared memory before is visible to those that waited for the phase.
struct SharedBarrier {
  std::uint64_t word;

  /// By one thread, before a __syncthreads().
  __device__ void initialize(int arrivals) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&word)), "r"(arrivals) : "memory");
  }
  /// One arrival, of all that this thread did before.
  __device__ void arrive() {
    asm volatile("{.reg .b64 state; mbarrier.arrive.shared.b64 state, [%0];}" ::"r"(shared_address(&word)) : "memory");
  }
  /// One arrival, when the asynchronous copies that this thread started before (cp.async) have landed.
  __device__ void arrive_with_copies() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&word)) : "memory");
  }
  /// One arrival for the whole warp, of all that its lanes did before.
  __device__ void arrive_as_warp() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive();
  }
  /// Waits until the latest phase of this parity (0: phases 0, 2, …) is complete. It must not be two phases behind.
  __device__ void wait(unsigned parity) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n.reg .pred done;\n"
        "again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(shared_address(&word)),
        "r"(parity)
        : "memory");
#else
    asm volatile(
        "{\n.reg .pred done;\n"
        "again: mbarrier.test_wait.parity.shared.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(shared_address(&word)),
        "r"(parity)
        : "memory");
#endif
  }
};

/// The hardware's barriers 0 to 15 of a thread block; __syncthreads() uses 0. `threads` counts those that arrive and
/// those that wait.
template <int threads>
__device__ void wait_at_barrier(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(threads) : "memory");
}
/// Arrives without waiting.
template <int threads>
__device__ void arrive_at_barrier(int id) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "n"(threads) : "memory");
}

}  // namespace causeway::cuda

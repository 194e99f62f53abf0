#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/shared_memory.cuh"

/// Launches of kernels with one argument and dynamic shared memory.
namespace causeway::cuda {

/// The dynamic shared memory of the block, aligned to 1024 bytes as swizzled boxes need.
__device__ inline unsigned char* block_memory() {
  extern __shared__ __align__(1024) unsigned char memory[];
  return memory;
}

template <auto Kernel, class Args>
void launch_kernel(const Stream& stream, int blocks, int threads, std::size_t shared_bytes, const Args& args) {
  allow_shared_memory(Kernel, shared_bytes);
  Kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared_bytes, native_of(stream)>>>(args);
  cuda_check(cudaGetLastError());
}

/// Of the current device.
inline std::int64_t multiprocessors() {
  int device = 0, count = 0;
  cuda_check(cudaGetDevice(&device));
  cuda_check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace causeway::cuda

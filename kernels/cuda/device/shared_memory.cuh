#pragma once

#include <cstddef>

#include "kernels/cuda/device/check.cuh"

namespace causeway {

/// Permits a kernel to use `bytes` bytes of dynamic shared memory, which more than 48 KiB need. Throws
/// Error with both sizes if a block of threads of this GPU has less.
template <class Function>
void allow_shared_memory(Function* kernel, std::size_t bytes,
                         std::source_location where = std::source_location::current()) {
  int device = 0, most = 0;
  cuda_check(cudaGetDevice(&device), where);
  cuda_check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), where);
  ensure(bytes <= static_cast<std::size_t>(most),
         "{}:{}: this kernel needs {} bytes of shared memory, a block of threads of this GPU has {}", where.file_name(),
         where.line(), bytes, most);
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), where);
}

}  // namespace causeway

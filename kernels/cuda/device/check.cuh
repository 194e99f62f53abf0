#pragma once

#include <cuda_runtime.h>

#include <source_location>

#include "kernels/core/error.hpp"
#include "kernels/core/stream.hpp"

namespace causeway {

/// Throws Error with the caller's file and line if a CUDA call failed. After a launch: cuda_check(cudaGetLastError()).
inline void cuda_check(cudaError_t status, std::source_location where = std::source_location::current()) {
  ensure(status == cudaSuccess, "{}:{}: CUDA: {}", where.file_name(), where.line(), cudaGetErrorString(status));
}

/// The CUDA stream of a Stream.
inline cudaStream_t native_of(const Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

}  // namespace causeway

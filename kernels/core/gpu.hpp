#pragma once

#include <functional>
#include <string>

#include "kernels/core/stream.hpp"

namespace causeway {

/// The number of GPUs that are visible to this process; 0 in a build without CUDA.
int visible_gpus();

/// Streams that the calling thread makes from now on are on the GPU of this ordinal, counted from 0 among the visible
/// ones. To be called before the thread's first stream. Throws Error(usage) if that GPU is not visible.
void use_gpu(int ordinal);

/// The PCI address of the calling thread's GPU. Two processes of one machine compare it to detect that they share a
/// GPU. Empty in a build without CUDA.
std::string gpu_address();

/// Enqueues a call on the host: it runs after the work that the stream was given so far, and work that it is given
/// later waits for the call. On a GPU's stream another thread runs it, which must not use the GPU or throw.
void call_on_host(const Stream& stream, std::function<void()> work);

}  // namespace causeway

#pragma once

#include <string>

namespace causeway {

/// The number of GPUs that are visible to this process; 0 in a build without CUDA.
int visible_gpus();

/// Streams that the calling thread makes from now on are on the GPU of this ordinal, counted from 0 among the visible
/// ones. To be called before the thread's first stream. Throws Error(usage) if that GPU is not visible.
void use_gpu(int ordinal);

/// The PCI address of the calling thread's GPU. Two processes of one machine compare it to detect that they share a
/// GPU. Empty in a build without CUDA.
std::string gpu_address();

}  // namespace causeway

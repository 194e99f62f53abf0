#pragma once

#include <string>

namespace causeway {

/// GPUs that this process sees; 0 in a build without CUDA.
int visible_gpus();

/// The calling thread's streams are this GPU's from now on, the visible ones counted from 0. Before its first stream.
void use_gpu(int ordinal);

/// The machine's own name of the calling thread's GPU (its PCI address), by which two processes find that they share
/// one.
std::string gpu_address();

}  // namespace causeway

#pragma once

#include <memory>
#include <string_view>

#include "parallel/transport/transport.hpp"

namespace causeway {

/// Selects the GPU of the calling thread: with k processes of lower ranks on the same node and n visible GPUs, GPU
/// number k mod n. Ranks that are threads of one process share a GPU, because a thread could not end another thread's
/// wait for NCCL. Call it before anything else uses a GPU. Collective; does nothing if no GPU is visible.
void select_gpu(Transport& ranks);

/// A group of the same ranks that sends device memory in the fastest way that all of them support: by NCCL between
/// GPUs, if this build has it and no two ranks share a GPU; otherwise as `ranks` does. It sends host memory and
/// scalars, and waits in barriers, always as `ranks` does. `stream` is the one on which the rank computes. Collective.
/// For a CPU stream the result is of the same kind as `ranks`.
std::unique_ptr<Transport> make_device_transport(Transport& ranks, const Stream& stream);

/// How the transport that make_device_transport returns for the same arguments sends device memory: "NCCL", "MPI",
/// "MPI, staged by the host" or, between threads, "copies"; "" for CPU streams. Collective.
std::string_view device_transfer_method(Transport& ranks, const Stream& stream, bool threads);
/// Whether this MPI accepts addresses of GPU memory.
bool mpi_accepts_device_memory();

/// NCCL for ranks with a GPU each. `control`, a transport of the same ranks, is used for host memory and control.
/// Throws Error(usage) in a build without NCCL.
std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport> control, const Stream& stream);

}  // namespace causeway

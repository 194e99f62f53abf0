#pragma once

#include <memory>
#include <string_view>

#include "parallel/transport/transport.hpp"

namespace causeway {

/// Gives the calling thread its GPU: the one at its process's place among the processes of its node, modulo the GPUs it
/// sees. Ranks that are threads of one process share a GPU: they would have no way to end NCCL's wait for each other.
/// Before anything else asks for a GPU. Collective; does nothing where no GPU is visible.
void take_gpu(Transport& ranks);

/// A group of the same ranks whose device memory travels the fastest way that all of them have: by NCCL between GPUs,
/// where this build has it and no two ranks share a GPU; otherwise as `ranks` itself does it, through page-locked
/// host memory. Host memory, scalars and barriers go the way of `ranks`. `stream` is what the rank computes on.
/// Collective; on CPU streams a group of `ranks`' own kind.
std::unique_ptr<Transport> make_device_transport(Transport& ranks, const Stream& stream);

/// How device memory travels over what make_device_transport makes of the same: "NCCL", "MPI", "MPI, staged by the
/// host" or, between threads, "copies"; "" for CPU streams. Collective.
std::string_view way_of_device_memory(Transport& ranks, const Stream& stream, bool threads);
/// Whether MPI takes addresses of a GPU's memory.
bool mpi_takes_device_memory();

/// NCCL, whatever else there is, for ranks of a GPU each; throws Error(usage) in a build without it. `control` is of
/// the same ranks and becomes its own.
std::unique_ptr<Transport> make_nccl_transport(std::unique_ptr<Transport> control, const Stream& stream);

}  // namespace causeway

#pragma once

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// How many threads this rank should compute with, so that all ranks together use each core once: the cores that it may
/// run on (its affinity), divided by the ranks of its host that share one of them; at least 1. The second form is for
/// `local_ranks` ranks that are threads of this process.
int fair_threads(Communicator& ranks);
int fair_threads(int local_ranks);

/// The largest number of ranks that are threads of this process. Beyond it, the ranks only wait for each other.
int most_local_ranks();

/// Sets the number of threads that kernels called by this thread use, unless OMP_NUM_THREADS is set.
void compute_with(int threads);

/// Throws Error(internal) if the system does not let this process start the threads of that many ranks, each of which
/// computes with as many threads as this thread.
void require_threads(int local_ranks);

}  // namespace causeway

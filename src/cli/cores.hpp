#pragma once

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// Threads each of these ranks should compute with, so that all together use the cores they may run on once: this
/// rank's cores (its affinity) over the ranks of its host that share one of them; at least 1. `local_ranks` are this
/// process's threads.
int fair_threads(Communicator& ranks);
int fair_threads(int local_ranks);

/// Computes with that many threads from here on, in the calling thread, unless OMP_NUM_THREADS says otherwise.
void compute_with(int threads);

}  // namespace causeway

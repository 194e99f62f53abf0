#include "src/cli/cores.hpp"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/core/threads.hpp"
#include "src/cli/log.hpp"

namespace causeway {
namespace {

/// The host of a rank and the CPUs that it may run on: each rank tells the others its own.
struct CpuAffinity {
  char host[256] = {};
  cpu_set_t cores{};
};

CpuAffinity own_affinity() {
  CpuAffinity own;
  host_name().copy(own.host, sizeof own.host - 1);
  CPU_ZERO(&own.cores);
  if (sched_getaffinity(0, sizeof own.cores, &own.cores) != 0) CPU_SET(0, &own.cores);
  return own;
}

bool share_a_core(const CpuAffinity& a, const CpuAffinity& b) {
  cpu_set_t common;
  CPU_AND(&common, &a.cores, &b.cores);
  return std::strcmp(a.host, b.host) == 0 && CPU_COUNT(&common) > 0;
}

}  // namespace

int fair_threads(Communicator& ranks) {
  const CpuAffinity own = own_affinity();
  std::vector<CpuAffinity> all(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)), Stream());
  const auto sharing = std::ranges::count_if(all, [&](const CpuAffinity& other) { return share_a_core(own, other); });
  return std::max(1, CPU_COUNT(&own.cores) / static_cast<int>(sharing));
}

int fair_threads(int local_ranks) {
  const CpuAffinity own = own_affinity();
  return std::max(1, CPU_COUNT(&own.cores) / std::max(1, local_ranks));
}

int most_local_ranks() {
  // The messages of a collective grow with the square of the ranks: on 2 cores, 64 ranks take a second a step, and 512
  // a minute.
  constexpr int always_allowed = 64, per_core = 16, most = 256;
  return std::clamp(per_core * fair_threads(1), always_allowed, most);
}

void compute_with(int threads) {
  const char* chosen = std::getenv("OMP_NUM_THREADS");
  if (chosen == nullptr || *chosen == '\0') set_threads(threads);
}

void require_threads(int local_ranks) {
  constexpr int beside = 2;  // of a rank: the watchdog, and a writer of checkpoints
  require_startable(local_ranks * (computing_threads() + beside));
}

}  // namespace causeway

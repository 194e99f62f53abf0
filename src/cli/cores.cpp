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

/// What a rank tells the others about where it may run.
struct Place {
  char host[256] = {};
  cpu_set_t cores{};
};

Place this_place() {
  Place place;
  host_name().copy(place.host, sizeof place.host - 1);
  CPU_ZERO(&place.cores);
  if (sched_getaffinity(0, sizeof place.cores, &place.cores) != 0) CPU_SET(0, &place.cores);
  return place;
}

bool shares_a_core(const Place& a, const Place& b) {
  cpu_set_t common;
  CPU_AND(&common, &a.cores, &b.cores);
  return std::strcmp(a.host, b.host) == 0 && CPU_COUNT(&common) > 0;
}

}  // namespace

int fair_threads(Communicator& ranks) {
  const Place here = this_place();
  std::vector<Place> places(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(std::as_bytes(std::span(&here, 1)), std::as_writable_bytes(std::span(places)), Stream());
  const auto sharing =
      std::count_if(places.begin(), places.end(), [&](const Place& place) { return shares_a_core(here, place); });
  return std::max(1, CPU_COUNT(&here.cores) / static_cast<int>(sharing));
}

int fair_threads(int local_ranks) {
  const Place here = this_place();
  return std::max(1, CPU_COUNT(&here.cores) / std::max(1, local_ranks));
}

void compute_with(int threads) {
  const char* chosen = std::getenv("OMP_NUM_THREADS");
  if (chosen == nullptr || *chosen == '\0') set_threads(threads);
}

}  // namespace causeway

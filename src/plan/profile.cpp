#include "src/plan/profile.hpp"

#include <algorithm>

#include "kernels/core/error.hpp"

namespace causeway {

double Profile::gemm_rate() const {
  const auto found = gemm_flops_per_s.find(dtype);
  ensure(found != gemm_flops_per_s.end(), "profile {} has no rate of matrix products in {}", name, name_of(dtype));
  return found->second;
}

Machine machine_of_group(const Profile& profile, int ranks) {
  Machine machine = profile.machine;
  if (ranks <= profile.ranks_per_host) return machine;
  const Link& network = profile.network;
  machine.latency_s = std::max(machine.latency_s, network.latency_s);
  machine.bytes_per_s = std::min(machine.bytes_per_s, network.bytes_per_s);
  const double others = ranks - 1, outside = ranks - profile.ranks_per_host;
  const double share = outside / others;
  machine.all_bytes_per_s = 1 / std::max(share / network.all_bytes_per_s, (1 - share) / machine.all_bytes_per_s);
  machine.message_s = std::max(share * network.message_s, (1 - share) * machine.message_s);
  return machine;
}

}  // namespace causeway

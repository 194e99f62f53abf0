#include "src/step_shares.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace causeway {

StepShares gather_shares(Communicator& world, const RankShare& mine) {
  std::vector<RankShare> all(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)), Stream());
  StepShares shares;
  double compute_s = 0;
  for (const RankShare& rank : all) {
    compute_s += rank.compute_s / world.size();
    shares.exposed_s += rank.exposed_s / world.size();
    shares.hidden_s += rank.hidden_s / world.size();
    shares.bytes_sent += rank.bytes_sent;
    shares.memory_bytes = std::max(shares.memory_bytes, rank.memory_bytes);
  }
  const auto slowest = std::ranges::max_element(all, {}, &RankShare::compute_s);
  shares.slowest_rank = slowest - all.begin();
  if (slowest->compute_s > 0) shares.balance = std::min(1.0, compute_s / slowest->compute_s);
  return shares;
}

}  // namespace causeway

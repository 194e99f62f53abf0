#include "src/train/step_shares.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace causeway {

StepShares gather_shares(Communicator& world, const RankShare& mine) {
  std::vector<RankShare> all(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)), Stream());
  const auto compute_s = [](const RankShare& rank) { return std::max(0.0, rank.step_s - rank.exposed_s); };
  StepShares shares;
  for (const RankShare& rank : all) {
    shares.step_s += rank.step_s / world.size();
    shares.exposed_s += rank.exposed_s / world.size();
    shares.hidden_s += rank.hidden_s / world.size();
    shares.bytes_sent += rank.bytes_sent;
    shares.memory_bytes = std::max(shares.memory_bytes, rank.memory_bytes);
  }
  const auto slowest = std::ranges::max_element(all, {}, compute_s);
  shares.compute_s = std::max(0.0, shares.step_s - shares.exposed_s);
  shares.slowest_rank = slowest - all.begin();
  if (compute_s(*slowest) > 0) shares.balance = std::min(1.0, shares.compute_s / compute_s(*slowest));
  return shares;
}

}  // namespace causeway

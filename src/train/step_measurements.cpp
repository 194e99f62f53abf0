#include "src/train/step_measurements.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace causeway {

StepMeasurements gather_measurements(Communicator& world, const RankMeasurements& own) {
  std::vector<RankMeasurements> all(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)), Stream());
  const auto compute_s = [](const RankMeasurements& rank) { return std::max(0.0, rank.step_s - rank.exposed_s); };
  StepMeasurements combined;
  for (const RankMeasurements& rank : all) {
    combined.step_s += rank.step_s / world.size();
    combined.exposed_s += rank.exposed_s / world.size();
    combined.hidden_s += rank.hidden_s / world.size();
    combined.bytes_sent += rank.bytes_sent;
    combined.memory_bytes = std::max(combined.memory_bytes, rank.memory_bytes);
  }
  const auto slowest = std::ranges::max_element(all, {}, compute_s);
  combined.compute_s = std::max(0.0, combined.step_s - combined.exposed_s);
  combined.slowest_rank = slowest - all.begin();
  if (compute_s(*slowest) > 0) combined.balance = std::min(1.0, combined.compute_s / compute_s(*slowest));
  return combined;
}

}  // namespace causeway

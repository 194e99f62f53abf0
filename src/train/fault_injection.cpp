#include "src/train/fault_injection.hpp"

#include <limits>
#include <vector>

#include "kernels/activation.hpp"

namespace causeway {

std::shared_ptr<Faults> make_faults(const FaultSettings& settings, Communicator& world) {
  std::vector<Fault> of_this_rank;
  collectively(world, [&] {
    for (const auto& [option, seconds] :
         {std::pair("--watchdog", settings.watchdog), std::pair("--watchdog-io", settings.watchdog_io)})
      require(seconds >= 0 && seconds <= 1e9, "{} is {}, expected 0 to {}", option, seconds, 1e9);
    for (const std::string& text : settings.inject) {
      const Fault fault = parse_fault(text);
      require(fault.rank < world.size(), "--inject-fault {}: rank is {}, expected 0 to {}", text, fault.rank,
              world.size() - 1);
      if (fault.rank == world.rank()) of_this_rank.push_back(fault);
    }
  });
  if (of_this_rank.empty()) return nullptr;
  return std::make_shared<Faults>(std::move(of_this_rank), world.rank());
}

std::shared_ptr<RankProgress> make_rank_progress(const std::shared_ptr<Faults>& faults) {
  auto progress = std::make_shared<RankProgress>();
  if (faults) progress->observe([faults](const ProgressPoint& point) { faults->reach(point); });
  return progress;
}

void inject_nan(const std::shared_ptr<Faults>& faults, const std::shared_ptr<const RankProgress>& progress,
                Model& model) {
  if (!faults || !faults->has_nan()) return;
  model.set_layer_hook([=](const Stream& stream, Phase phase, std::int64_t layer, TensorView values) {
    const RankPosition position = progress->snapshot().position;
    // Evaluation and recomputation run a layer forward in other phases: faults do not apply to them.
    if (position.phase != phase || !faults->makes_nan(position.step, phase, layer) || values.rows() == 0) return;
    fill(stream, {.value = std::numeric_limits<double>::quiet_NaN(), .y = values.slice_rows(0, 1)});
  });
}

}  // namespace causeway

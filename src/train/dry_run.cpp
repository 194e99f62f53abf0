/// What `causeway train --dry-run` answers beyond the plan: memory, epochs, and the time of a step.

#include <algorithm>

#include "parallel/cost/repeated_seconds.hpp"
#include "src/cli/number_format.hpp"
#include "src/model/activation_memory.hpp"
#include "src/model/flops.hpp"
#include "src/runtime/available_memory.hpp"
#include "src/runtime/gemm_rate.hpp"
#include "src/train/memory_plan.hpp"
#include "src/train/trainer.hpp"

namespace causeway {
namespace {

/// Packs of the start of a sequence.
struct PackCount {
  std::int64_t packs = 0, tokens = 0;
  double flops = 0;  ///< of one pass over all of them
  double mean_tokens() const {
    return static_cast<double>(tokens) / static_cast<double>(std::max<std::int64_t>(packs, 1));
  }
  double mean_flops() const { return flops / static_cast<double>(std::max<std::int64_t>(packs, 1)); }
};

std::string seconds_text(double seconds) { return seconds < 60 ? short_time(seconds) : duration(seconds); }

}  // namespace

std::string Trainer::dry_run() {
  const std::int64_t epoch_tokens = data_.tokens();
  std::string text = plan() + '\n' + choice_;

  const ParameterMemory parameters = training_memory_of(settings_.compute, settings_.memory, settings_.accumulate);
  RankMemory memory = memory_of_rank(model_, runtime_, settings_.pack_tokens, parameters);
  Communicator& world = runtime_.mesh.world;
  memory.program = world.max(resident_bytes()) / (uses_mpi(settings_.launch) ? 1 : world.size());
  const std::optional<AvailableMemory> available = available_memory(runtime_, runtime_.stream.device());
  std::optional<double> with_recompute;
  if (!settings_.memory.recompute) {
    Model::Options options = model_.options();
    options.recompute = true;
    RankMemory less = memory_of_rank(Model(options), runtime_, settings_.pack_tokens, parameters);
    less.program = memory.program;
    with_recompute = less.on_device(runtime_.stream.device());
  }
  const Device device = runtime_.stream.device();
  text += '\n' + memory_text(memory, device, available, with_recompute);
  const bool leaves_gpu = settings_.memory.offload != "none" && device != Device::cpu;
  if (leaves_gpu) text += '\n' + fit_text(memory.on_host(device), available_memory(runtime_, Device::cpu));

  // One epoch of packs, or the start of it.
  constexpr std::int64_t most_packs = 20'000;
  PackCount count;
  while (count.tokens < epoch_tokens && count.packs < most_packs) {
    const Pack pack = packs_->next();
    ++count.packs;
    count.tokens += pack.tokens();
    count.flops += training_flops(model_, segments_of(pack));
    rank_progress_->heartbeat();
  }
  const auto packs_a_step = static_cast<double>(settings_.accumulate * runtime_.mesh.data_size);
  const double packs_an_epoch = static_cast<double>(epoch_tokens) / count.mean_tokens(),
               epochs = static_cast<double>(settings_.steps) * packs_a_step * count.mean_tokens() /
                        static_cast<double>(epoch_tokens);
  text +=
      fmt::format("\nan epoch: {} tokens, about {} packs ({:.1f} % padding), {} steps; {} steps are {:.3g} epochs",
                  grouped(epoch_tokens), grouped(std::llround(std::ceil(packs_an_epoch))),
                  100 * (1 - count.mean_tokens() / static_cast<double>(settings_.pack_tokens)),
                  grouped(std::llround(std::ceil(packs_an_epoch / packs_a_step))), grouped(settings_.steps), epochs);

  const bool fits = available && memory.on_device(device) * available->ranks <= available->bytes;
  const double step_flops =
      count.mean_flops() * static_cast<double>(settings_.accumulate) / runtime_.mesh.context.size();
  return text + '\n' + (fits ? step_time(step_flops) : "time of a step: not known, because it does not fit here");
}

/// Runs a few steps, if that takes seconds. `flops`: of this rank in a step.
std::string Trainer::step_time(double flops) {
  constexpr double longest_step_s = 5, most_s = 10;
  Communicator& world = runtime_.mesh.world;
  const GemmRate rate = gemm_rate(Stopwatch(runtime_.stream, 0), model_.options().dtype);
  runtime_.stream.memory().reset_peak();
  const double products_s = world.max(flops / rate.flops_per_s);
  if (products_s > longest_step_s)
    return fmt::format(
        "time of a step: not known; its matrix products alone take {} at {}FLOP/s of a rank, {}, too long to try",
        seconds_text(products_s), shortened(rate.flops_per_s),
        rate.repeats ? "measured here" : "measured here, but not repeatable: other programs compute on these cores");

  model_.parameters().allocate(runtime_.stream, world,
                               training_memory_of(settings_.compute, settings_.memory, settings_.accumulate));
  set_initial_state();
  checkpoints_.emplace(settings_, resume_record_, runtime_, log_, std::vector<std::int64_t>(),
                       CheckpointHook());  // writes nothing
  RepeatedSeconds times;
  std::int64_t tokens = 0, bytes = 0, steps = 0;
  double slowest = 0;
  const std::int64_t first = step_ + 1;
  // The first step is slower than others. The times are the same on every rank, so all ranks stop together.
  for (std::int64_t number = first; (times.total() <= most_s && !times.settled()); ++number) {
    const TrainingStep step = train_step(std::min(number, settings_.steps));
    bytes = step.measured.memory_bytes;
    if (number == first && step.measured.step_s < most_s) continue;
    times.add(step.measured.step_s);
    slowest = std::max(slowest, step.measured.step_s);
    tokens += step.tokens;
    ++steps;
  }
  const std::string memory =
      fmt::format("; its tensors take {} on the largest rank", binary_bytes(static_cast<double>(bytes)));
  if (steps > 1 && !times.settled())
    return fmt::format(
        "time of a step: not known; {} steps here took {} to {}: other programs compute on these cores{}", steps,
        seconds_text(times.seconds()), seconds_text(slowest), memory);
  const double left = static_cast<double>(settings_.steps - step_);
  return fmt::format(
      "time of a step: {}, as measured here ({} step{}), {} tokens/s; {} steps take about {}, without evaluations and "
      "checkpoints{}",
      seconds_text(times.seconds()), steps, steps == 1 ? "" : "s",
      shortened(static_cast<double>(tokens) / static_cast<double>(steps) / times.seconds()),
      grouped(settings_.steps - step_), duration(left * times.seconds()), memory);
}

}  // namespace causeway

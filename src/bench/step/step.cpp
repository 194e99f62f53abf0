#include "src/bench/step/step.hpp"

#include <algorithm>
#include <numeric>

#include "src/bench/documents.hpp"
#include "src/bench/measure.hpp"
#include "src/bench/step/step_runner.hpp"
#include "src/model/flops.hpp"
#include "src/runtime/strategy_choice.hpp"

namespace causeway {
namespace {

/// The packs of a step, of all data groups.
std::vector<StepPass> packs_of(const StepSettings& settings, std::int64_t count) {
  const PackingOptions packing{.policy = settings.policy, .pack_tokens = settings.tokens, .window = settings.window};
  if (settings.lengths != "packed" && settings.lengths != "one")
    return packs_of(read_lengths(settings.lengths, "--lengths"), packing, count);
  const std::vector<std::int64_t> cu_seqlens =
      settings.lengths == "one" ? std::vector<std::int64_t>{0, settings.tokens} : packed_documents(settings.tokens);
  StepPass pack;
  for (std::size_t d = 1; d < cu_seqlens.size(); ++d) pack.documents.push_back(cu_seqlens[d] - cu_seqlens[d - 1]);
  return std::vector<StepPass>(static_cast<std::size_t>(count), pack);
}

/// Those of one data group: `train` deals the packs to the groups in turn.
std::vector<StepPass> of_group(const std::vector<StepPass>& packs, int group, int groups) {
  std::vector<StepPass> own;
  for (auto i = static_cast<std::size_t>(group); i < packs.size(); i += static_cast<std::size_t>(groups))
    own.push_back(packs[i]);
  return own;
}

double sum_of(const StepParts& parts) {
  return std::accumulate(parts.begin(), parts.end(), 0.0,
                         [](double sum, const auto& part) { return sum + part.second; });
}

/// Makes the parts add up to the time of a step without a trace. `host_s`: for how long the GPU waits for the host in
/// it; it becomes the part "host".
void settle_parts(StepMeasurement& found, std::optional<double> host_s) {
  found.traced_s = sum_of(found.parts);
  if (found.traced_s <= 0) return;
  found.parts_scale = (found.step_s - host_s.value_or(0)) / found.traced_s;
  for (auto& [name, seconds] : found.parts) seconds *= found.parts_scale;
  if (host_s) found.parts["host"] = *host_s;
}

}  // namespace

void check(const StepSettings& settings) {
  const auto within = [](std::string_view option, std::int64_t value, std::int64_t most) {
    require(value >= 1 && value <= most, "--{} is {}, expected 1 to {}", option, value, most);
  };
  within("tokens", settings.tokens, std::int64_t{1} << 31);
  if (settings.steps) within("steps", *settings.steps, 1000);
  check_step_options(settings.window, settings.accumulate, settings.memory, settings.compute.shard);
}

StepMeasurement measure_step(const StepSettings& settings, Communicator world) {
  Runtime runtime = make_runtime(settings.compute, std::move(world), std::make_shared<RankProgress>());
  Mesh& mesh = runtime.mesh;
  std::vector<StepPass> all;
  collectively(mesh.world, [&] {
    all = packs_of(settings, settings.accumulate * mesh.data_size);
    const auto has_label = [](const StepPass& pass) { return std::ranges::max(pass.documents) > 1; };
    require(std::ranges::any_of(all, has_label),
            "no document has two tokens, so that no token has a next one to learn: see --lengths and --tokens");
  });
  StepRunner runner(settings, all, runtime);
  const std::vector<StepPass> own = of_group(all, mesh.data_index, mesh.data_size);

  const std::int64_t few = std::min<std::int64_t>(settings.steps.value_or(3), 3);
  const std::vector<double> seconds = runner.times(own, settings.steps);
  StepMeasurement found{.shape = runner.model().options().shape,
                        .parameters = runner.model().parameters().count(),
                        .ranks = mesh.world.size(),
                        .data_groups = mesh.data_size,
                        .count = count_of(all),
                        .most_places = settings.tokens * std::ssize(all),
                        .step_s = median(seconds),
                        .steps_s = seconds,
                        .mfu = {},
                        .gemm_flops_per_s = runner.gemm_flops_per_s(),
                        .memory_bytes = mesh.world.max(runtime.stream.memory().peak_bytes()),
                        .predicted_bytes = runner.predicted_bytes(),
                        .traffic = runner.traffic(),
                        .strategies = strategies_text(runtime.strategies.names())};
  if (found.gemm_flops_per_s) {
    double flops = 0;
    for (const StepPass& pass : all) flops += training_flops(runner.model(), Segments::of_lengths(pass.documents));
    found.mfu = flops / (found.step_s * *found.gemm_flops_per_s * mesh.world.size());
  }
  if (found.step_s < long_step_s) {
    found.parts = runner.traced_parts(own, few);
    settle_parts(found, runner.on_gpu() ? std::optional(runner.seconds_of_host(own, found.step_s)) : std::nullopt);
  }

  const auto compare = [&](const auto& divided) {
    StepComparison other;
    for (int group = 0; group < mesh.data_size; ++group)
      other.count += count_of(divided(of_group(all, group, mesh.data_size)));
    other.step_s = median(runner.times(divided(own), few));
    return other;
  };
  if (settings.one_at_a_time) found.one_at_a_time = compare(one_at_a_time);
  if (settings.padded)
    found.padded = compare([&](const std::vector<StepPass>& packs) { return padded(packs, settings.tokens); });
  return found;
}

}  // namespace causeway

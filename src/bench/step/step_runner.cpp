#include "src/bench/step/step_runner.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>

#include "kernels/core/event.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/core/trace.hpp"
#include "kernels/probe.hpp"
#include "src/bench/measure.hpp"
#include "src/cli/number_format.hpp"
#include "src/runtime/gemm_rate.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/strategy_choice.hpp"
#include "src/runtime/sum_over_ranks.hpp"
#include "src/runtime/wall_clock.hpp"
#include "src/train/memory_plan.hpp"

namespace causeway {
namespace {

/// The id of a token. Any: random weights make of each the same work. Neighbours differ, and so do documents.
std::int32_t token_at(std::int64_t document, std::int64_t position, std::int64_t vocabulary) {
  const auto mixed = static_cast<std::uint64_t>(position) * 2654435761U + static_cast<std::uint64_t>(document) * 40503U;
  return static_cast<std::int32_t>((mixed >> 5) % static_cast<std::uint64_t>(vocabulary));
}

/// This rank's part of a pass, on its device. Every token but the last of its document has a label.
PackOnRank place(const StepPass& pass, std::int64_t vocabulary, Layout layout, const Runtime& runtime) {
  Pack pack;
  for (std::size_t d = 0; d < pass.documents.size(); ++d)
    pack.pieces.push_back({.document = static_cast<std::int64_t>(d),
                           .begin = 0,
                           .end = pass.row_tokens == 0 ? pass.documents[d] : pass.row_tokens});
  PackOnRank placed;
  placed.sharding = sharding_of(pack, layout, runtime);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(placed.sharding->local_tokens())), labels(ids.size(), -1);
  for_each_local_run(pack, *placed.sharding, [&](const LocalRun& run) {
    const std::int64_t document = run.piece.document, length = pass.documents[static_cast<std::size_t>(document)];
    for (std::int64_t t = run.tokens.begin; t < run.tokens.end; ++t) {
      const auto row = static_cast<std::size_t>(run.row + t - run.tokens.begin);
      ids[row] = token_at(document, t, vocabulary);
      if (t + 1 >= length) continue;
      labels[row] = token_at(document, t + 1, vocabulary);
      placed.weight_sum += 1;
    }
  });
  placed.ids = on_device<std::int32_t>(runtime.stream, ids);
  placed.labels = on_device<std::int32_t>(runtime.stream, labels);
  return placed;
}

double mean_document_of(const std::vector<StepPass>& passes) {
  std::int64_t tokens = 0, documents = 0;
  for (const StepPass& pass : passes) {
    documents += std::ssize(pass.documents);
    for (const std::int64_t length : pass.documents) tokens += length;
  }
  return static_cast<double>(tokens) / static_cast<double>(std::max<std::int64_t>(documents, 1));
}

/// The traffic of a step, from one rank's counters before and after `steps` of them. Collective.
StepTraffic traffic_between(const Traffic& before, const Traffic& after, double steps, Communicator& world) {
  const auto [exposed_s, hidden_s, bytes] =
      sum_over_ranks(world, std::array{after.exposed_s - before.exposed_s, after.hidden_s - before.hidden_s,
                                       static_cast<double>(after.bytes_sent - before.bytes_sent)});
  return {exposed_s / steps / world.size(), hidden_s / steps / world.size(), bytes / steps};
}

/// Holds a GPU back for about `seconds`, so that the host can enqueue work ahead of it.
void hold_back(const Stream& stream, TensorView probe, double seconds) {
  constexpr double seconds_each = 2e-8;  // of an exponential that waits for the one before
  repeated_exponential(stream, {.x = probe, .times = static_cast<std::int64_t>(seconds / seconds_each), .y = probe});
}

}  // namespace

StepRunner::StepRunner(const StepSettings& settings, const std::vector<StepPass>& all, Runtime& runtime)
    : runtime_(runtime),
      layout_(parse_layout(settings.compute.layout)),
      model_([&] {
        Model::Options options = training_options_of(settings.compute, settings.memory);
        collectively(runtime_.mesh.world,
                     [&] { options.shape = resolve(settings.model, preset_options(default_preset)); });
        return options;
      }()),
      progress_(runtime.mesh.world.rank(), std::ssize(model_.options().shape.layers)) {
  runtime_.one_way_layers = one_way_layers(model_.calls());
  choose_strategies(runtime_, model_.calls(),
                    {.layout = layout_,
                     .tokens = settings.tokens,
                     .document_tokens = mean_document_of(all),
                     .passes = {.repeated = settings.memory.recompute ? 1.0 : 0.0}},
                    "forced");
  progress_.end_stage("strategies chosen");
  if (on_gpu()) gemm_flops_per_s_ = gemm_rate(Stopwatch(runtime_.stream, 0), model_.options().dtype).flops_per_s;
  const ParameterMemory parameters = training_memory_of(settings.compute, settings.memory, settings.accumulate);
  progress_.end_stage("rate of a large product measured");
  require_memory(settings, parameters, all);
  model_.parameters().allocate(runtime_.stream, runtime_.mesh.world, parameters);
  model_.parameters().initialise(0, runtime_.stream);
  runtime_.stream.wait();
  progress_.end_stage("initial weights made");
  optimizer_.emplace(OptimizerOptions{.offload = settings.memory.offloads("optimizer")}, model_.parameters(),
                     runtime_.mesh.world, runtime_.stream);
  update_.emplace(runtime_, model_, *optimizer_);
  update_->update_beside_passes();
  runtime_.stream.wait();
  progress_.end_stage("optimizer state made");
  const auto locked = static_cast<double>(
      model_.reserve_host_memory(runtime_.stream, ceil_div(settings.tokens, runtime_.mesh.context.size())));
  progress_.end_stage(fmt::format("{} of host memory for activations page-locked", binary_bytes(locked)));
  model_.set_layer_hook(
      [this](const Stream&, Phase phase, std::int64_t block, TensorView) { progress_.enqueued(phase, block); });
  probe_ = Tensor::zeros(runtime_.stream, DType::f32, {32});
  runtime_.stream.memory().reset_peak();
}

PackOnRank StepRunner::first_of(const std::vector<StepPass>& own) {
  return place(own.front(), model_.options().shape.vocabulary, layout_, runtime_);
}

void StepRunner::run(const std::vector<StepPass>& own, PackOnRank& first) {
  constexpr double learning_rate = 1e-4;
  const ProfileRange range(runtime_.stream, "step");
  update_->begin();
  for (const StepPass& pass : own) {
    const PackOnRank work =
        &pass == &own.front() ? std::move(first) : place(pass, model_.options().shape.vocabulary, layout_, runtime_);
    update_->add(*work.sharding, work.batch(), work.weight_sum);
  }
  const auto [labels] = sum_over_ranks(runtime_.mesh.world, std::array{update_->label_weight()});
  update_->update(++number_, learning_rate, labels);
  first = first_of(own);
  const double loss = update_->wait_for_result().loss / labels;
  if (!std::isfinite(loss))
    collectively(runtime_.mesh.world, [&] { fail(ExitCode::non_finite, "step {}: the loss is {}", number_, loss); });
  progress_.end_step(number_);
}

std::vector<double> StepRunner::times(const std::vector<StepPass>& own, std::optional<std::int64_t> count) {
  constexpr double long_enough_s = 2, most_uncounted_s = 4;
  constexpr int most_uncounted = 8;
  PackOnRank first = first_of(own);
  const auto seconds_of_step = [&] {
    const WallClock watch;
    run(own, first);
    return watch.seconds();
  };
  std::vector<double> seconds;
  Traffic before = runtime_.mesh.traffic();
  double about = 0, spent = 0;
  for (int i = 0; i < (on_gpu() ? most_uncounted : 1) && (i < 2 || spent < most_uncounted_s); ++i) {
    about = runtime_.mesh.world.max(seconds_of_step());
    spent += about;
    if (about < long_step_s) continue;
    if (count == 1) seconds.push_back(about);
    break;
  }
  if (seconds.empty()) before = runtime_.mesh.traffic();
  const std::int64_t steps = count.value_or(static_cast<std::int64_t>(std::clamp(long_enough_s / about, 5.0, 25.0)));
  while (std::ssize(seconds) < steps) seconds.push_back(seconds_of_step());
  traffic_ = traffic_between(before, runtime_.mesh.traffic(), static_cast<double>(steps), runtime_.mesh.world);
  for (double& each : seconds) each = runtime_.mesh.world.max(each);
  return seconds;
}

/// On a GPU a range waits until the host has enqueued it: without that, an operator's time would contain the time in
/// which the GPU waits for the host between the two events around it. Where the host is two ranges ahead the GPU does
/// not wait: a GPU that was idle is cooler than in a step without a trace, and runs faster.
StepParts StepRunner::traced_parts(const std::vector<StepPass>& own, std::int64_t steps) {
  constexpr double host_s = 2e-3;  // longer than the host takes for a layer
  const auto attach = [&](Trace* trace) {
    runtime_.stream.trace_in(trace);
    runtime_.mesh.world.trace_in(trace);
    runtime_.mesh.context.trace_in(trace);
  };
  PackOnRank first = first_of(own);
  Trace trace(runtime_.stream);
  std::deque<Event> begun;  // the last two ranges
  const auto hold_back_unless_ahead = [&] {
    if (begun.size() < 2 || begun.front().reached()) hold_back(runtime_.stream, probe_, host_s);
    begun.emplace_back(runtime_.stream);
    if (begun.size() > 2) begun.pop_front();
  };
  if (on_gpu()) trace.before_ranges(hold_back_unless_ahead);
  attach(&trace);
  try {
    for (std::int64_t i = 0; i < steps; ++i) {
      run(own, first);
      trace.wait_for_times();
    }
  } catch (...) {
    attach(nullptr);
    throw;
  }
  attach(nullptr);
  StepParts parts = parts_of(trace.spans(), lane_of(runtime_.stream), repeated_exponential.name);
  for (auto& [name, seconds] : parts) seconds /= static_cast<double>(steps);
  if (on_gpu()) parts.erase("rest");  // the trace's own events
  return parts;
}

/// On a GPU the time in which it waits for the host: that of a step without a trace minus that of a step which the host
/// has enqueued ahead. A GPU that was held back is cooler and runs faster for a moment, so it is held back before both.
double StepRunner::seconds_of_host(const std::vector<StepPass>& own, double step_s) {
  constexpr double most_s = 0.5, long_s = 1;
  PackOnRank first = first_of(own);
  const auto seconds = [&](bool ahead) {
    hold_back(runtime_.stream, probe_, std::min(step_s, most_s));
    if (!ahead) runtime_.stream.wait();
    const Event begin(runtime_.stream, true);
    run(own, first);
    const Event end(runtime_.stream, true);
    end.wait();
    return end.seconds_since(begin);
  };
  std::vector<double> differences(step_s < long_s ? 3 : 1);
  for (double& difference : differences) {
    const double with_host = seconds(false);
    difference = with_host - seconds(true);
  }
  return std::clamp(median(differences), 0.0, step_s);
}

void StepRunner::require_memory(const StepSettings& settings, const ParameterMemory& parameters,
                                const std::vector<StepPass>& all) {
  const auto largest = std::ranges::max_element(all, {}, [](const StepPass& pass) { return pass.tokens(); });
  std::vector<std::int64_t> cu_seqlens{0};
  for (const std::int64_t length : largest->documents)
    if (length > 0) cu_seqlens.push_back(cu_seqlens.back() + length);
  RankMemory memory = memory_of_rank(model_, runtime_, settings.tokens, parameters, cu_seqlens);
  memory.checkpoint = 0;
  if (settings.memory.offload != "none") require_host_memory(runtime_, memory);
  const double state = memory.state();
  predicted_bytes_ = memory.tensors();
  const std::optional<AvailableMemory> available = available_memory(runtime_, runtime_.stream.device());
  collectively(runtime_.mesh.world, [&] {
    if (available && state * available->ranks > available->bytes)
      fail(ExitCode::internal, "weights, gradients and optimizer state take {} on {} rank{}, but {} has {} available",
           binary_bytes(state * available->ranks), available->ranks, available->ranks == 1 ? "" : "s", available->where,
           binary_bytes(available->bytes));
  });
}

}  // namespace causeway

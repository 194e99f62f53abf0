#include "src/bench/step.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <numeric>

#include "kernels/core/event.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/core/trace.hpp"
#include "kernels/probe.hpp"
#include "src/bench/documents.hpp"
#include "src/bench/measure.hpp"
#include "src/bench/step_progress.hpp"
#include "src/cli/number_format.hpp"
#include "src/model/flops.hpp"
#include "src/model/model_update.hpp"
#include "src/runtime/gemm_rate.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/strategy_choice.hpp"
#include "src/runtime/sum_over_ranks.hpp"
#include "src/runtime/wall_clock.hpp"
#include "src/train/data/pack_on_rank.hpp"
#include "src/train/memory_plan.hpp"

namespace causeway {
namespace {

/// Steps that take this long are all counted, and none is traced.
constexpr double long_step_s = 8;

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

/// A model that trains on passes of random tokens.
class StepRunner {
 public:
  StepRunner(const StepSettings& settings, const std::vector<StepPass>& all, Runtime& runtime)
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

  const Model& model() const { return model_; }
  bool on_gpu() const { return runtime_.stream.device() == Device::cuda; }
  std::optional<double> gemm_flops_per_s() const { return gemm_flops_per_s_; }
  double predicted_bytes() const { return predicted_bytes_; }  ///< as RankMemory::tensors

  /// The first pass of a step, on the device.
  PackOnRank first_of(const std::vector<StepPass>& own) {
    return place(own.front(), model_.options().shape.vocabulary, layout_, runtime_);
  }
  /// One step, with the calls of Trainer::train_step that compute. `first`: the step's first pass; afterwards that of
  /// the next step, prepared while the device computes.
  void run(const std::vector<StepPass>& own, PackOnRank& first) {
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

  /// The times of some steps, each of the slowest rank; `count`: as StepSettings::steps. Some before them are not
  /// counted: the first one allocates memory and finds algorithms. A GPU measures those of a matrix product when that
  /// occurs for the eighth time (kernels/cuda/gemm.cu), which takes tens of milliseconds: that is the eighth step if a
  /// step has only one of them. If the first step takes long_step_s, no other is left out; and it is counted if it is
  /// the only one.
  std::vector<double> times(const std::vector<StepPass>& own, std::optional<std::int64_t> count) {
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

  const StepTraffic& traffic() const { return traffic_; }  ///< in the steps of the last call of times()

  /// The mean time of each part over some steps.
  StepParts traced_parts(const std::vector<StepPass>& own, std::int64_t steps);
  double seconds_of_host(const std::vector<StepPass>& own, double step_s);

 private:
  /// Throws AgreedError where not even the state of the training fits: the system might end other programs.
  void require_memory(const StepSettings& settings, const ParameterMemory& parameters,
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
             binary_bytes(state * available->ranks), available->ranks, available->ranks == 1 ? "" : "s",
             available->where, binary_bytes(available->bytes));
    });
  }

  Runtime& runtime_;
  Layout layout_;
  Model model_;
  StepProgress progress_;
  std::optional<Optimizer> optimizer_;
  std::optional<ModelUpdate> update_;
  std::optional<double> gemm_flops_per_s_;
  StepTraffic traffic_;
  std::int64_t number_ = 0;
  double predicted_bytes_ = 0;
  Tensor probe_;  // that a GPU computes on while it is held back
};

/// Holds a GPU back for about `seconds`, so that the host can enqueue work ahead of it.
void hold_back(const Stream& stream, TensorView probe, double seconds) {
  constexpr double seconds_each = 2e-8;  // of an exponential that waits for the one before
  repeated_exponential(stream, {.x = probe, .times = static_cast<std::int64_t>(seconds / seconds_each), .y = probe});
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

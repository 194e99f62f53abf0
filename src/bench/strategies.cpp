#include "src/bench/strategies.hpp"

#include <algorithm>
#include <chrono>
#include <set>
#include <vector>

#include "kernels/core/dry_run/dry_run.hpp"
#include "parallel/cost/measure.hpp"
#include "src/bench/measure.hpp"
#include "src/bench/operators.hpp"
#include "src/runtime/benchmark_tensors.hpp"

namespace causeway {
namespace {

constexpr std::int64_t least_heads = 8, largest_head = 128, channels_per_filter = 16;

/// The size of an axis, by its letter in the operator's row.
std::int64_t size_of_axis(char letter, const StrategyWorkload& work) {
  const std::int64_t head = std::min(work.channels / least_heads, largest_head);
  switch (letter) {
    case 'T':
      return work.tokens;
    case 'D':
      return work.channels;
    case 'F':
      return 3 * work.channels;
    case 'G':
      return std::max<std::int64_t>(work.channels / channels_per_filter, 1);
    case 'H':
      return work.channels / head;
    case 'E':
      return head;
    case 'W':
      return work.row.name == "hyena_block" ? 3 : 4;  // as in StripedHyena 2 and in Mamba
    case 'L':
      return work.row.name == "hyena_se" || work.filter == "se"   ? 7
             : work.row.name == "hyena_mr" || work.filter == "mr" ? 128
                                                                  : 1024;
    default:
      return 16;  // states and modes
  }
}

/// A range of values as a trained model has them: rates that decay, filters whose output stays bounded.
std::pair<double, double> bounds_of(std::string_view input) {
  if (input == "A") return {-16, -1};
  if (input == "log_rates") return {-6, -1};
  if (input == "delta") return {-5, -1};
  if (input == "taps" || input == "residues") return {-0.05, 0.05};
  return {-1, 1};
}

Shape shape_of(const OpInput& input, const StrategyWorkload& work, std::int64_t local_tokens) {
  std::vector<std::int64_t> extents;
  for (const char letter : input.shape) extents.push_back(letter == 'T' ? local_tokens : size_of_axis(letter, work));
  return extents.size() == 1   ? Shape{extents[0]}
         : extents.size() == 2 ? Shape{extents[0], extents[1]}
                               : Shape{extents[0], extents[1], extents[2]};
}

/// The values of the operator's attributes.
OpAttributes attributes_of(const OpRow& row) {
  OpAttributes attributes;
  for (const OpAttribute& attribute : row.attributes)
    attributes[std::string(attribute.name)] = attribute.choices.empty() ? "10000" : attribute.choices.back();
  return attributes;
}

/// The packs on which strategies are measured.
struct StrategySizes {
  std::int64_t channels;
  std::vector<std::int64_t> tokens;
  std::int64_t longest_quadratic;  ///< longest document for what takes time in proportion to its square
};

StrategySizes sizes_of(const StrategyBenchSettings& settings, Device device) {
  StrategySizes sizes = device == Device::cuda
                            ? StrategySizes{.channels = 4096, .tokens = {16384, 65536}, .longest_quadratic = 65536}
                            : StrategySizes{.channels = 64, .tokens = {4096, 16384}, .longest_quadratic = 8192};
  if (settings.tokens > 0) {
    sizes.channels = settings.channels;
    sizes.tokens = {settings.tokens};
  }
  return sizes;
}

/// The operator's packs, with the estimates of its strategies: of each size one document, and documents of PackMamba's
/// mean length (documents.hpp).
std::vector<AutoChoice> packs_of(StrategyWorkload work, const StrategySizes& sizes, Machine& machine,
                                 Communicator& ranks, const Stream& stream) {
  constexpr std::int64_t mean_document = 646;
  std::vector<AutoChoice> packs;
  for (const std::int64_t tokens : sizes.tokens)
    for (const std::int64_t documents : std::set{std::int64_t{1}, std::max<std::int64_t>(tokens / mean_document, 1)}) {
      if (work.row.name == "attention" && tokens / documents > sizes.longest_quadratic) continue;
      work.tokens = tokens;
      work.documents = documents;
      packs.push_back({work.name(), tokens, documents, estimate_strategies(work, machine, ranks, stream)});
    }
  return packs;
}

}  // namespace

std::string StrategyWorkload::name() const {
  return filter.empty() ? std::string(row.name) : fmt::format("{}/{}", row.name, filter);
}

bool StrategyWorkload::has(const OpInput& input) const {
  if (filter != "li") return input.instead_of.empty();
  return std::ranges::none_of(row.inputs, [&](const OpInput& other) { return other.instead_of == input.name; });
}

StrategyWorkload StrategyWorkload::with(const OpStrategy& by, const std::string& its_variant, std::int64_t pack_tokens,
                                        std::int64_t pack_documents) const {
  return {row, filter, by, its_variant, layout, dtype, pack_tokens, pack_documents, channels};
}

std::vector<StrategyWorkload> strategy_workloads(DType dtype, std::int64_t channels) {
  std::vector<StrategyWorkload> workloads;
  for (const OpRow& row : op_rows())
    for (const char* filter :
         row.name == "hyena_block" ? std::vector<const char*>{"se", "mr", "li"} : std::vector<const char*>{""})
      workloads.push_back(
          {.row = row, .filter = filter, .strategy = row.strategies.front(), .dtype = dtype, .channels = channels});
  return workloads;
}

WorkloadTensors::WorkloadTensors(const StrategyWorkload& work, std::int64_t local_tokens, const Stream& stream)
    : attributes_(attributes_of(work.row)) {
  for (const OpInput& input : work.row.inputs) {
    if (!work.has(input)) continue;
    const Shape shape = shape_of(input, work, local_tokens);
    const DType wide = accumulator_of(work.dtype);
    const std::string name(input.name);
    inputs_[name] = Tensor(stream, input.accumulator ? wide : work.dtype, shape);
    const auto [low, high] = bounds_of(name);
    if (!is_dry_run(stream)) fill_with_random(stream, inputs_[name], low, high, inputs_.size());
    gradients_[name] = Tensor::zeros(stream, input.per_token() ? work.dtype : wide, shape);
    views_.inputs[name] = inputs_[name];
    views_.gradients[name] = gradients_[name];
  }
  const TensorView first = find_tensor(views_.inputs, work.row.inputs.front().name);
  y_ = Tensor(stream, first.dtype, first.shape);
  d_y_ = Tensor(stream, first.dtype, first.shape);
  if (!is_dry_run(stream)) fill_with_random(stream, d_y_, -1, 1, 0);
  views_.y = y_;
  views_.d_y = d_y_;
}

BoundOperator bind(const StrategyWorkload& work, const Sharding& sharding, Communicator& ranks, const Stream& stream,
                   const WorkloadTensors& tensors) {
  const auto chosen = [&](std::string_view option) -> std::string {
    return work.variant.starts_with(option) ? work.variant.substr(option.size()) : "auto";
  };
  return work.row.bind(work.strategy.name,
                       {.sharding = sharding,
                        .ranks = ranks,
                        .stream = stream,
                        .schedule = parse_schedule(chosen("--schedule ")),
                        .method = parse_method(chosen("--method "))},
                       tensors.views());
}

StrategyMeasurement measure_strategy(const StrategyWorkload& work, Communicator& control, Communicator& ranks,
                                     const Stream& stream, int repetitions, double least_seconds) {
  using Clock = std::chrono::steady_clock;
  stream.memory().reset_peak();
  const Sharding sharding(ShardLayout(work.tokens, ranks.size(), work.layout),
                          Segments::equal_documents(work.tokens, work.documents), ranks.rank(), stream);
  const WorkloadTensors tensors(work, sharding.local_tokens(), stream);
  const BoundOperator op = bind(work, sharding, ranks, stream, tensors);
  // In a step the host is ahead of a GPU: several calls in a row, of which only the first waits for it.
  const std::int64_t calls = stream.device() == Device::cuda ? 4 : 1;
  std::vector<Saved> saved;
  const auto timed = [&](const auto& run) {
    control.barrier();
    const auto begin = Clock::now();
    for (Saved& each : saved) run(each);
    stream.wait();
    return control.max(std::chrono::duration<double>(Clock::now() - begin).count()) / static_cast<double>(calls);
  };

  StrategyMeasurement result;
  std::vector<double> forward, backward, exposed, hidden;
  double total = 0;
  for (int repetition = 0; repetition <= repetitions || total < least_seconds; ++repetition) {
    const Traffic before = ranks.traffic();
    saved.clear();
    for (std::int64_t i = 0; i < calls; ++i) saved.emplace_back(std::string(op.name));
    const double forward_s = timed([&](Saved& each) { op.forward(&each); });
    const double backward_s = timed([&](Saved& each) { op.backward(each); });
    for (const Saved& each : saved) each.ensure_empty();
    const Traffic& after = ranks.traffic();
    const double exposed_s = control.max(after.exposed_s - before.exposed_s) / static_cast<double>(calls),
                 hidden_s = control.max(after.hidden_s - before.hidden_s) / static_cast<double>(calls);
    result.bytes_sent = control.max(after.bytes_sent - before.bytes_sent) / calls;
    result.messages_sent = control.max(after.messages_sent - before.messages_sent) / calls;
    if (repetition == 0 && (repetitions > 0 || least_seconds > 0)) continue;  // warms up
    forward.push_back(forward_s);
    backward.push_back(backward_s);
    exposed.push_back(exposed_s);
    hidden.push_back(hidden_s);
    total += forward_s + backward_s;
  }
  result.forward_s = median(forward);
  result.backward_s = median(backward);
  result.exposed_s = median(exposed);
  result.hidden_s = median(hidden);
  result.memory_bytes = control.max(stream.memory().peak_bytes());
  return result;
}

std::string text_of(const StrategyWorkload& work, const StrategyMeasurement& measured, const Estimate& estimate) {
  const std::string name =
      fmt::format("{} {}{}{}", work.name(), work.strategy.name, work.variant.empty() ? "" : " ", work.variant);
  return fmt::format("{:<50} {:>8} {:>9} {:>10.2f} {:>11.2f} {:>11.2f} {:>10.2f} {:>9.2f} {:>12} {:>8}\n", name,
                     work.tokens, work.documents, measured.forward_s * 1e3, measured.backward_s * 1e3,
                     estimate.seconds * 1e3, measured.exposed_s * 1e3, measured.hidden_s * 1e3, measured.bytes_sent,
                     measured.messages_sent);
}

nlohmann::ordered_json to_json(const StrategyWorkload& work, const StrategyMeasurement& measured,
                               const Estimate& estimate) {
  return {{"operator", work.name()},
          {"strategy", work.strategy.name},
          {"variant", work.variant},
          {"tokens", work.tokens},
          {"channels", work.channels},
          {"documents", work.documents},
          {"forward_milliseconds", measured.forward_s * 1e3},
          {"backward_milliseconds", measured.backward_s * 1e3},
          {"estimated_milliseconds", estimate.seconds * 1e3},
          {"exposed_milliseconds", measured.exposed_s * 1e3},
          {"hidden_milliseconds", measured.hidden_s * 1e3},
          {"bytes_sent", measured.bytes_sent},
          {"messages_sent", measured.messages_sent},
          {"memory_bytes", measured.memory_bytes}};
}

OperatorArguments shapes_of(const StrategyWorkload& work, std::int64_t local_tokens) {
  const OpAttributes attributes = attributes_of(work.row);
  OpTensors shapes{.attributes = attributes};
  for (const OpInput& input : work.row.inputs)
    if (work.has(input))
      shapes.inputs[std::string(input.name)] = without_data(input.accumulator ? accumulator_of(work.dtype) : work.dtype,
                                                            shape_of(input, work, local_tokens));
  shapes.y = find_tensor(shapes.inputs, work.row.inputs.front().name);
  return work.row.arguments(shapes);
}

std::vector<Estimate> estimate_strategies(const StrategyWorkload& work, Machine& machine, Communicator& ranks,
                                          const Stream& stream) {
  const Sharding sharding(ShardLayout(work.tokens, ranks.size(), work.layout),
                          Segments::equal_documents(work.tokens, work.documents), ranks.rank());
  const std::vector calls{shapes_of(work, sharding.local_tokens())};
  measure_kernels(machine, ranks, stream, calls, timed_shape(sharding));
  return estimates(sharding, calls, machine, {});
}

StrategyBench bench_strategies(const StrategyBenchSettings& settings, Communicator& control, Communicator& ranks,
                               const Stream& stream, const std::function<void(const std::string& line)>& report) {
  constexpr std::int64_t most_direct_taps = 8192;
  const StrategySizes sizes = sizes_of(settings, stream.device());
  report(fmt::format("{:<50} {:>8} {:>9} {:>10} {:>11} {:>11} {:>10} {:>9} {:>12} {:>8}\n",
                     fmt::format("{} {}, {} ranks, {} channels", name_of(stream.device()), name_of(settings.dtype),
                                 ranks.size(), sizes.channels),
                     "tokens", "documents", "forward ms", "backward ms", "estimate ms", "exposed ms", "hidden ms",
                     "bytes sent", "messages"));
  StrategyBench found{.machine = measure_links(ranks, stream)};
  for (const StrategyWorkload& work : strategy_workloads(settings.dtype, sizes.channels)) {
    const auto is_asked = [&](const OpStrategy& strategy) {
      return matches(settings.filter, fmt::format("{} {}", work.name(), strategy.name));
    };
    if (std::ranges::none_of(work.row.strategies, is_asked)) continue;
    std::vector<AutoChoice> packs = packs_of(work, sizes, found.machine, ranks, stream);
    for (const OpStrategy& strategy : work.row.strategies) {
      if (!is_asked(strategy)) continue;
      for (const std::string& variant : strategy.variants.empty() ? std::vector<std::string>{""} : strategy.variants)
        for (AutoChoice& pack : packs) {
          if (variant == "--method direct" && pack.tokens / pack.documents > most_direct_taps) continue;
          const StrategyWorkload each = work.with(strategy, variant, pack.tokens, pack.documents);
          const StrategyMeasurement measured =
              measure_strategy(each, control, ranks, stream, 3, settings.least_seconds);
          pack.add(strategy.name, measured.forward_s + measured.backward_s);
          const Estimate& estimate = pack.estimate_of(strategy.name);
          report(text_of(each, measured, estimate));
          found.rows.push_back(to_json(each, measured, estimate));
        }
    }
    std::ranges::move(packs, std::back_inserter(found.choices));
  }
  return found;
}

}  // namespace causeway

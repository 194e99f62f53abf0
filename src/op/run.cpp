#include "src/op/run.hpp"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "io/file/atomic_file.hpp"
#include "parallel/cost/measure.hpp"
#include "parallel/transport/device_transport.hpp"
#include "src/cli/log.hpp"
#include "src/op/case_file.hpp"
#include "src/op/result_file.hpp"
#include "src/op/table.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/rank_stream.hpp"
#include "src/runtime/strategy_choice.hpp"
#include "src/runtime/wall_clock.hpp"

namespace causeway {
namespace {

/// A request whose options are valid and fit each other.
struct Plan {
  const OpRow& row;
  std::vector<const OpStrategy*> strategies;  ///< the requested one; for "auto" all that the options allow
  Layout layout;
  DType dtype;
  Device device;
  Schedule schedule;
  Method method;
  KeepSpectra keep_spectra;
};

/// Why a strategy does not fit the other options; empty if it does. --schedule and --method select a variant: they are
/// allowed where the strategy lists them.
std::string objection(const OpStrategy& strategy, const OpRequest& request) {
  const auto lacks = [](const auto& list, const auto& wanted) { return std::ranges::find(list, wanted) == list.end(); };
  if (lacks(strategy.layouts, parse_layout(request.layout)))
    return fmt::format("does not run on layout {}", request.layout);
  if (lacks(strategy.devices, parse_device(request.device)))
    return fmt::format("does not run on device {}", request.device);
  for (const auto& [option, value] : {std::pair("schedule", request.schedule), std::pair("method", request.method)}) {
    const std::string wanted = fmt::format("--{} {}", option, value);
    if (value != "auto" && lacks(strategy.variants, wanted))
      return fmt::format(
          "has no variant {}, expected {}", wanted,
          strategy.variants.empty() ? "none of them" : fmt::format("{}", fmt::join(strategy.variants, " or ")));
  }
  return "";
}

Plan plan_of(const OpRequest& request) {
  require(!request.op.empty(), "--operator is missing: expected one of those that causeway op --list prints");
  const OpRow& row = find_op(request.op);
  Plan plan{row,
            {},
            parse_layout(request.layout),
            parse_dtype(request.dtype),
            parse_device(request.device),
            parse_schedule(request.schedule),
            parse_method(request.method),
            parse_keep_spectra(request.keep_spectra)};
  const OpStrategy* const asked = request.strategy == "auto" ? nullptr : &find_op_strategy(row, request.strategy);
  std::string first_objection;
  for (const OpStrategy& strategy : row.strategies) {
    if (asked != nullptr && asked != &strategy) continue;
    const std::string why_not = objection(strategy, request);
    if (why_not.empty())
      plan.strategies.push_back(&strategy);
    else if (first_objection.empty())
      first_objection = fmt::format("{} {} {}", row.name, strategy.name, why_not);
  }
  require(!plan.strategies.empty(), "{}", first_objection);
  require(!request.in.empty(), "--in is missing: expected the case file");
  require(!request.out.empty() || request.dry_run, "--out is missing: expected the result file's name");
  require(!same_file(request.in, request.out), "--out is '{}', the case file itself", request.out);
  return plan;
}

DType dtype_of_input(const OpInput& input, DType dtype) { return input.accumulator ? accumulator_of(dtype) : dtype; }
DType dtype_of_gradient(const OpInput& input, DType dtype) { return input.per_token() ? dtype : accumulator_of(dtype); }

/// Refuses a case that does not fit the memory, before the first allocation: a file may claim a shape whose bytes it
/// does not have.
void check_memory(const CaseFile& file, const Plan& plan, const Sharding& sharding, bool backward) {
  const std::int64_t available = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  std::int64_t bytes = 0;
  for (const OpInput& input : file.present()) {
    const Shape shape = file.shape_of(input);
    const std::int64_t rows = input.per_token() ? sharding.local_tokens() : shape[0];
    const std::int64_t copies = (backward ? 2 : 1) + (input.name == plan.row.inputs.front().name ? 2 : 0);
    bytes += std::min(available + 1, rows * shape.row_size()) * size_of(dtype_of_input(input, plan.dtype)) * copies;
    require(bytes <= available,
            "{} does not fit a rank's memory: up to its dataset {} ({}) {} bytes are needed, and this machine has {}",
            file.sizes(), input.name, shape.to_string(), bytes, available);
  }
}

/// All tensors of a rank for one case.
struct CaseTensors {
  std::map<std::string, Tensor, std::less<>> inputs, gradients;
  Tensor y, d_y;

  OpTensors views(const OpAttributes& attributes) const {
    return {.inputs = {inputs.begin(), inputs.end()},
            .gradients = {gradients.begin(), gradients.end()},
            .y = y,
            .d_y = d_y,
            .attributes = attributes};
  }
};

/// Estimates every allowed strategy on this rank's part of the case and chooses one.
StrategyChoice choose(const Plan& plan, const CaseFile& file, const Sharding& sharding, bool backward,
                      DeviceGroup& group) {
  OpTensors shapes{.attributes = file.attributes()};
  for (const OpInput& input : file.present()) {
    const Shape whole = file.shape_of(input);
    shapes.inputs[std::string(input.name)] = without_data(
        dtype_of_input(input, plan.dtype), input.per_token() ? whole.with_rows(sharding.local_tokens()) : whole);
  }
  shapes.y = find_tensor(shapes.inputs, plan.row.inputs.front().name);
  const std::vector calls{plan.row.arguments(shapes)};
  if (!group.machine) group.machine = measure_links(group.ranks, group.stream);
  measure_kernels(*group.machine, group.ranks, group.stream, calls, timed_shape(sharding));
  std::vector<Estimate> rows =
      estimates(sharding, calls, *group.machine, {.forward = 1, .backward = backward ? 1.0 : 0.0});
  std::erase_if(rows, [&](const Estimate& row) {
    return std::ranges::find(plan.strategies, row.strategy, &OpStrategy::name) == plan.strategies.end();
  });
  return choose_strategy(plan.row.name, std::move(rows));
}

CaseTensors load(const CaseFile& file, const Plan& plan, const Sharding& sharding, const Stream& stream,
                 bool backward) {
  check_memory(file, plan, sharding, backward);
  CaseTensors tensors;
  for (const OpInput& input : file.present()) {
    Tensor& loaded = tensors.inputs[std::string(input.name)];
    loaded = file.read(input, input.name, dtype_of_input(input, plan.dtype), sharding, stream);
    if (backward)
      tensors.gradients[std::string(input.name)] =
          Tensor::zeros(stream, dtype_of_gradient(input, plan.dtype), loaded.view().shape);
  }
  const OpInput& like_y = plan.row.inputs.front();
  tensors.y = Tensor::zeros(stream, plan.dtype, tensors.inputs.find(like_y.name)->second.view().shape);
  if (backward) tensors.d_y = file.read(like_y, "d_y", plan.dtype, sharding, stream);
  return tensors;
}

/// The time of the slowest rank and the bytes that the rank with the most sent.
struct Measured {
  double seconds = 0;
  std::int64_t bytes_sent = 0;
};

template <class Work>
Measured measured(Communicator& control, Communicator& ranks, const Stream& stream, Work&& work) {
  control.barrier();
  const std::int64_t before = ranks.traffic().bytes_sent;
  const WallClock clock;
  work();
  stream.wait();
  const double seconds = clock.seconds();
  return {control.max(seconds), control.max(ranks.traffic().bytes_sent - before)};
}

struct PassMeasurements {
  Measured forward, backward;
  Measured reduction;  ///< of the sums of the parameters' gradients over the ranks
};

/// Runs the forward pass, and the backward pass if it is asked for.
PassMeasurements run_passes(const BoundOperator& op, const CaseFile& file, const OpTensors& tensors, bool with_backward,
                            Communicator& control, DeviceGroup& group) {
  PassMeasurements result;
  const auto measure_it = [&](const auto& work) { return measured(control, group.ranks, group.stream, work); };
  Saved saved{std::string(op.name)};
  result.forward = measure_it([&] { op.forward(with_backward ? &saved : nullptr); });
  if (!with_backward) return result;
  result.backward = measure_it([&] { op.backward(saved); });
  saved.ensure_empty();
  result.reduction = measure_it([&] {
    for (const OpInput& input : file.present())
      if (!input.per_token())
        group.ranks.all_reduce(find_tensor(tensors.gradients, input.name), Reduction::sum, group.stream);
  });
  return result;
}

/// The datasets of the result file, in host memory: y and, after a backward pass, the gradient of every input.
std::vector<ResultTensor> results_on_host(CaseTensors& tensors, const CaseFile& file, const OpRow& row,
                                          const Stream& stream) {
  if (stream.device() == Device::cuda) {
    tensors.y = on_host(stream, tensors.y);
    for (auto& [name, gradient] : tensors.gradients) gradient = on_host(stream, gradient);
  }
  std::vector<ResultTensor> results{{"y", file.shape_of(row.inputs.front()), tensors.y, true}};
  if (tensors.gradients.empty()) return results;
  for (const OpInput& input : file.present())
    results.push_back({fmt::format("d_{}", input.name), file.shape_of(input),
                       tensors.gradients.find(input.name)->second, input.per_token()});
  return results;
}

}  // namespace

DeviceGroup& OpWorld::on(Device device) {
  if (const auto found = groups_.find(device); found != groups_.end()) return found->second;
  const Stream stream = make_rank_stream(device, control_);
  Communicator ranks(make_device_transport(control_.transport(), stream));
  return groups_.emplace(device, DeviceGroup{stream, std::move(ranks), std::nullopt}).first->second;
}

std::string run_op(const OpRequest& request, OpWorld& world) {
  Communicator& ranks = world.control();
  std::optional<Plan> checked;
  std::optional<CaseFile> opened;
  collectively(ranks, [&] {
    checked.emplace(plan_of(request));
    opened.emplace(request.in, checked->row, request.backward);
    if (ranks.rank() != 0) return;
    if (const std::string ignored = opened->ignored(); !ignored.empty())
      Log().warn("{}: not an input of {}, ignored: {}", request.in, checked->row.name, ignored);
  });
  const Plan& plan = *checked;
  const CaseFile& file = *opened;
  require_same(ranks, request.in, file.outline());
  DeviceGroup& group = world.on(plan.device);
  const Stream& stream = group.stream;
  stream.memory().reset_peak();
  const Sharding sharding(ShardLayout(file.tokens(), ranks.size(), plan.layout), file.segments(), ranks.rank(), stream);
  std::string strategy(plan.strategies.front()->name), why;
  if (request.strategy == "auto" && ranks.size() == 1) {
    why = "\none rank sends nothing: the first strategy";
  } else if (request.strategy == "auto") {
    const StrategyChoice choice = choose(plan, file, sharding, request.backward, group);
    strategy = choice.strategy;
    why = fmt::format("\n{}\n{}", machine_text(*group.machine, ranks.size()), choice_text(choice));
  }
  const std::string described =
      fmt::format("{} {} {} {} {}, {}, {} rank{}", plan.row.name, strategy, request.layout, request.dtype,
                  request.device, file.sizes(), ranks.size(), ranks.size() == 1 ? "" : "s");
  if (request.dry_run) return described + why;

  ResultFile result(request.out, ranks);
  CaseTensors tensors;
  collectively(ranks, [&] { tensors = load(file, plan, sharding, stream, request.backward); });
  const OpTensors views = tensors.views(file.attributes());
  const BoundOperator op = plan.row.bind(strategy,
                                         {.sharding = sharding,
                                          .ranks = group.ranks,
                                          .stream = stream,
                                          .schedule = plan.schedule,
                                          .method = plan.method,
                                          .keep_spectra = plan.keep_spectra},
                                         views);
  const PassMeasurements passes = run_passes(op, file, views, request.backward, ranks, group);
  const std::int64_t memory_bytes = ranks.max(stream.memory().peak_bytes());

  std::vector<ResultTensor> results;
  collectively(ranks, [&] { results = results_on_host(tensors, file, plan.row, stream); });
  result.write(results,
               {{"operator", std::string(plan.row.name)},
                {"strategy", strategy},
                {"layout", request.layout},
                {"dtype", request.dtype},
                {"device", request.device},
                {"ranks", std::int64_t{ranks.size()}},
                {"schedule", request.schedule},
                {"method", request.method},
                {"keep_spectra", request.keep_spectra},
                {"seconds_forward", passes.forward.seconds},
                {"seconds_backward", passes.backward.seconds},
                {"bytes_sent_forward", passes.forward.bytes_sent},
                {"bytes_sent_backward", passes.backward.bytes_sent},
                {"bytes_sent_reduction", passes.reduction.bytes_sent},
                {"memory_bytes", memory_bytes}},
               sharding);
  return described;
}

}  // namespace causeway

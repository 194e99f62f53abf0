#include "src/bench/calibration.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "kernels/core/event.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/gemm.hpp"
#include "parallel/choose.hpp"
#include "parallel/cost/measure.hpp"
#include "parallel/transport/device_transport.hpp"
#include "src/cli/log.hpp"
#include "src/cli/number_format.hpp"
#include "src/model/model.hpp"
#include "src/runtime/available_memory.hpp"
#include "src/runtime/benchmark_tensors.hpp"
#include "src/runtime/gemm_rate.hpp"
#include "src/runtime/stopwatch.hpp"
#include "src/runtime/strategy_choice.hpp"

namespace causeway {
namespace {

/// The numbers of hosts in the order of their first rank: that of this rank, and how many ranks each has at most.
struct Hosts {
  int own = 0, count = 1, most_ranks = 1;
};
Hosts hosts_of(Communicator& world) {
  using Name = std::array<char, 256>;
  Name own{};
  host_name().copy(own.data(), own.size() - 1);
  std::vector<Name> all(static_cast<std::size_t>(world.size()));
  world.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)), Stream());
  std::vector<Name> distinct;
  for (const Name& name : all)
    if (std::ranges::find(distinct, name) == distinct.end()) distinct.push_back(name);
  Hosts hosts{.own = static_cast<int>(std::ranges::find(distinct, own) - distinct.begin()),
              .count = static_cast<int>(distinct.size())};
  for (const Name& name : distinct)
    hosts.most_ranks = std::max(hosts.most_ranks, static_cast<int>(std::ranges::count(all, name)));
  return hosts;
}

/// A GPU that computes for long is slower than one that begins: its clock falls with the power that it takes. A step is
/// as long, so kernels and products are timed under load. A CPU is timed as it is.
class Load {
 public:
  explicit Load(const Stream& stream, DType dtype) : tensors_(stream) {
    if (stream.device() == Device::cpu) return;
    constexpr std::int64_t side = 8192;
    product_ = {.a = tensors_.random(dtype, {side, side}),
                .b = tensors_.random(dtype, {side, side}),
                .c = tensors_.empty(dtype, {side, side})};
  }

  /// Some milliseconds of products.
  void run() const {
    if (!product_.c.present()) return;
    for (int i = 0; i < 4; ++i) gemm(tensors_.stream(), product_);
    tensors_.stream().wait();
  }

  /// Seconds of a run: on a GPU of the second half of `most` seconds in which it only runs this; on the CPU of the
  /// fastest.
  static double seconds(const Stopwatch& stopwatch, double most, const std::function<void()>& run) {
    const Stream& stream = stopwatch.stream();
    if (stream.device() == Device::cpu) return stopwatch.repeated_seconds(most, run).seconds();
    // A matrix product measures its algorithms when it occurs for the eighth time (kernels/cuda/gemm.cu).
    constexpr int uncounted = 12, at_once = 4;
    for (int i = 0; i < uncounted; ++i) run();
    stream.wait();
    std::vector<double> times;
    for (double total = 0; total < most; total += at_once * times.back()) {
      const Event begin(stream, true);
      for (int i = 0; i < at_once; ++i) run();
      const Event end(stream, true);
      end.wait();
      times.push_back(end.seconds_since(begin) / at_once);
    }
    const auto middle = times.begin() + std::ssize(times) * 3 / 4;
    std::nth_element(times.begin() + std::ssize(times) / 2, middle, times.end());
    return *middle;
  }

 private:
  BenchmarkTensors tensors_;
  Gemm product_;
};

/// Floating-point operations a second of the products of a model's blocks: y = x·Wᵀ, d_x = d_y·W and d_W = d_yᵀ·x,
/// each shape as often as the model has it.
double rate_of_products(const Stopwatch& stopwatch, const Model& model, std::int64_t tokens) {
  constexpr double most_seconds = 0.3;  // for each product
  std::vector<std::pair<Shape, int>> shapes;
  for (const Parameter& parameter : model.parameters().parameters()) {
    const ParameterSpec& spec = parameter.spec;
    if (!spec.decay || !spec.product || spec.shape.rank() != 2) continue;
    const auto found = std::ranges::find(shapes, spec.shape, [](const auto& each) { return each.first; });
    if (found == shapes.end())
      shapes.emplace_back(spec.shape, 1);
    else
      ++found->second;
  }
  double flops = 0, seconds = 0;
  for (const auto& [shape, count] : shapes) {
    BenchmarkTensors tensors(stopwatch.stream());
    const DType dtype = model.options().dtype;
    const std::int64_t outputs = shape[0], inputs = shape[1];
    const TensorView x = tensors.random(dtype, {tokens, inputs}), weight = tensors.random(dtype, {outputs, inputs}),
                     y = tensors.random(dtype, {tokens, outputs}), d_x = tensors.empty(dtype, {tokens, inputs}),
                     d_weight = tensors.empty(accumulator_of(dtype), {outputs, inputs});
    const auto time = [&](const Gemm& product) {
      seconds += count * Load::seconds(stopwatch, most_seconds, [&] { gemm(tensors.stream(), product); });
      flops += 2.0 * count * static_cast<double>(tokens) * static_cast<double>(outputs) * static_cast<double>(inputs);
    };
    time({.a = y, .b = weight, .c = d_x});
    time({.a = y, .b = x, .transpose_a = true, .c = d_weight});
    time({.a = x, .b = weight, .transpose_b = true, .c = y});
  }
  return flops / seconds;
}

/// Bytes a second of copies within host memory, read + write.
double host_copy_rate() {
  constexpr std::int64_t elements = std::int64_t{1} << 25;
  const Stream host;
  const Stopwatch stopwatch(host, 0);
  BenchmarkTensors tensors(host);
  const TensorView from = tensors.random(DType::f32, {elements}), to = tensors.empty(DType::f32, {elements});
  const double seconds =
      stopwatch.repeated_seconds(0.5, [&] { host.copy(to.data, from.data, from.bytes()); }).seconds();
  return 2 * static_cast<double>(from.bytes()) / seconds;
}

/// Bytes a second from page-locked host memory to the device.
double host_link_rate(const Stream& stream) {
  constexpr std::int64_t bytes = std::int64_t{1} << 28;
  const std::vector<std::byte> host(static_cast<std::size_t>(bytes));
  const Tensor device(stream, DType::u8, {bytes});
  const Stopwatch stopwatch(stream, 0);
  const double seconds =
      stopwatch.repeated_seconds(0.5, [&] { stream.upload(device.view().data, host.data(), bytes); }).seconds();
  return static_cast<double>(bytes) / seconds;
}

}  // namespace

void check(const CalibrationSettings& settings) {
  settings.shape.check();
  require(settings.tokens >= 1 && settings.tokens <= std::int64_t{1} << 40, "--tokens is {}, expected 1 to 2^40",
          settings.tokens);
}

Profile measure_profile(const CalibrationSettings& settings, Communicator& world, const Stream& stream) {
  const bool on_gpu = settings.device == Device::cuda;
  const Hosts hosts = hosts_of(world);
  Communicator of_host = world.split(hosts.own, world.rank());
  Communicator ranks(make_device_transport(world.transport(), stream)),
      near(make_device_transport(of_host.transport(), stream));
  const auto least = [&](double rate) { return 1 / world.max(1 / rate); };

  const Model model({.shape = settings.shape, .dtype = settings.dtype});
  std::vector<OperatorArguments> arguments;
  for (const OperatorCall& call : model.calls()) arguments.push_back(call.arguments);
  const Sharding sharding(ShardLayout(settings.tokens, world.size(), Layout::contiguous),
                          Segments::equal_documents(settings.tokens, 1), world.rank());

  Profile profile;
  profile.name = settings.name;
  profile.source = fmt::format("measured by causeway bench profile on {} ranks of {} hosts", world.size(), hosts.count);
  profile.device = settings.device;
  profile.dtype = settings.dtype;
  profile.ranks_per_host = hosts.most_ranks;
  profile.machine = measure_links(near, stream);
  {
    const Load load(stream, settings.dtype);
    measure_kernels(profile.machine, ranks, stream, arguments, timed_shape(sharding), [&] { load.run(); });
  }
  profile.machine = slowest(profile.machine, world);
  const Machine& machine = profile.machine;
  profile.network = {machine.latency_s, machine.message_s, machine.bytes_per_s, machine.all_bytes_per_s};
  if (world.size() == 1) profile.sources["link"] = "not measured: one rank has no link";
  if (hosts.count > 1) {
    const Machine over_hosts = slowest(measure_links(ranks, stream), world);
    profile.network = {over_hosts.latency_s, over_hosts.message_s, over_hosts.bytes_per_s, over_hosts.all_bytes_per_s};
    if (hosts.most_ranks == 1) {  // no link within a host: computation is beside the network's messages
      profile.machine.overlap = over_hosts.overlap;
      profile.machine.latency_overlap = over_hosts.latency_overlap;
    }
    profile.sources["network"] = "of an exchange between all ranks, some of which are on one host";
  }
  const Stopwatch stopwatch(stream, 0);
  const GemmRate large = gemm_rate(stopwatch, settings.dtype);
  profile.gemm_flops_per_s = {{settings.dtype, least(large.flops_per_s)}};
  const std::int64_t local_tokens = ceil_div(settings.tokens, world.size());
  profile.gemm_in_step =
      std::clamp(least(rate_of_products(stopwatch, model, local_tokens)) / profile.gemm_rate(), 1e-3, 1.0);
  profile.host_update_bytes_per_s = least(host_copy_rate());
  profile.host_link_bytes_per_s = on_gpu ? least(host_link_rate(stream)) : profile.host_update_bytes_per_s;
  if (on_gpu) profile.device_bytes = least(static_cast<double>(stream.memory().free_device_bytes().value_or(1)));
  profile.host_bytes = least(available_host_memory().value_or(1));
  if (on_gpu) profile.sources["host_link_bytes_per_s"] = "of an upload from memory that is not page-locked";
  if ((!machine.repeats || !large.repeats) && world.rank() == 0)
    Log(world.rank()).warn("the times do not repeat: other programs compute on these cores");
  return profile;
}

std::string profile_text(const Profile& profile) {
  return fmt::format("{}\nproducts {}FLOP/s, {:.2f} of it those of the model\n",
                     machine_text(profile.machine, profile.ranks_per_host), shortened(profile.gemm_rate()),
                     profile.gemm_in_step);
}

}  // namespace causeway

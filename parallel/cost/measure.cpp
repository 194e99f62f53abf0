#include "parallel/cost/measure.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/reorder.hpp"
#include "parallel/cost/timed_group.hpp"

namespace causeway {
namespace {

/// An exchange in which every rank sends `bytes` in all, the same to each of the next `peers` ranks, in `each`
/// messages.
class TimedExchange {
 public:
  TimedExchange(std::int64_t bytes, int peers, const TimedGroup& group, int each = 1)
      : group_(group),
        out_(Tensor::zeros(group.stream, DType::u8, {peers * each, bytes / peers / each})),
        in_(group.stream, DType::u8, {peers * each, bytes / peers / each}) {
    const int ranks = group.ranks.size(), me = group.ranks.rank();
    for (int message = 0; message < peers * each; ++message) {
      const int peer = message % peers;
      transfers_.push_back(
          {.peer = (me + 1 + peer) % ranks, .send = out_.view().slice_rows(message, 1).as_bytes(), .recv = {}});
      transfers_.push_back(
          {.peer = (me + ranks - 1 - peer) % ranks, .send = {}, .recv = in_.view().slice_rows(message, 1).as_bytes()});
    }
  }
  Pending start() const { return group_.ranks.start(transfers_, group_.stream); }
  /// The mean of `repeats` exchanges, one after the other.
  double seconds(int repeats) const {
    return group_.median_seconds(tries, [&] {
      for (int i = 0; i < repeats; ++i) start().wait();
    }) / repeats;
  }

 private:
  static constexpr int tries = 9;

  const TimedGroup& group_;
  Tensor out_, in_;
  std::vector<Transfer> transfers_;
};

/// Packs half of the columns of `rows` rows of 4 KiB.
class TimedPacking {
 public:
  static constexpr double row_bytes = 4096;  ///< read + written

  TimedPacking(std::int64_t rows, const TimedGroup& group)
      : group_(group),
        from_(Tensor::zeros(group.stream, DType::f32, {rows, columns})),
        to_(group.stream, DType::f32, {rows, columns / 2}) {}

  double bytes() const { return 2 * static_cast<double>(to_.view().bytes()); }  ///< read + written
  void run() const {
    const RowRange all[] = {{.from = 0, .to = 0, .count = to_.view().rows()}};
    copy_rows(group_.stream, {.x = from_.view().slice_columns(0, columns / 2), .ranges = all, .y = to_});
  }
  double seconds(int repeats) const {
    return group_.median_seconds(5, [&] { run(repeats); }) / repeats;
  }
  void run(int repeats) const {
    for (int i = 0; i < repeats; ++i) run();
  }

 private:
  static constexpr std::int64_t columns = 1024;

  const TimedGroup& group_;
  Tensor from_, to_;
};

/// The part of an exchange that overlaps with work that takes as long, 0 to 1: with a network card or a second queue
/// most of it; nothing if the processor that works also copies the messages. As in a pass, the device is idle before,
/// so that the time in which the host enqueues is not hidden.
double overlap(const TimedExchange& exchange, const TimedPacking& packing, int packings, const TimedGroup& group) {
  constexpr int tries = 9;
  const double idle = group.median_seconds(tries, [] {}), apart = exchange.seconds(1) - idle,
               working = group.median_seconds(tries, [&] { packing.run(packings); }) - idle,
               together = group.median_seconds(tries, [&] {
                 Pending pending = exchange.start();
                 packing.run(packings);
                 pending.wait();
               }) - idle;
  return std::clamp((apart + working - together) / std::max(std::min(apart, working), 1e-9), 0.0, 1.0);
}

/// The times of one kernel on this rank at two sizes.
struct KernelTimes {
  TimedKernel kernel;
  double elements = 0, fewer = 0;
  double seconds = std::numeric_limits<double>::infinity(), less = seconds;
  bool repeats = false;

  /// Measures again, and keeps the faster times.
  void measure(const OperatorArguments& call, const TimedShape& shape, const TimedGroup& group) {
    constexpr double most_seconds = 0.15;
    const int calls = group.stream.device() == Device::cpu ? 1 : 4;  // so that the host's wait is a small part
    bool settled = true;
    const auto timed = [&](bool small, double& count, double& best) {
      const KernelRun prepared = prepare_run(group.stream, call, kernel, shape, small);
      const RepeatedSeconds times = group.repeated_seconds(most_seconds, [&] {
        for (int i = 0; i < calls; ++i) prepared.run();
      });
      settled = settled && times.settled();
      count = prepared.elements;
      best = std::min(best, times.seconds() / calls);
    };
    timed(false, elements, seconds);
    timed(true, fewer, less);
    repeats = repeats || settled;
  }

  KernelRate rate() const {
    KernelRate found{.kernel = kernel, .element_s = seconds / std::max(elements, 1.0)};
    if (elements > fewer && seconds > less)
      found.element_s = std::min(found.element_s, (seconds - less) / (elements - fewer));
    found.call_s = std::max(0.0, seconds - elements * found.element_s);
    return found;
  }
};

}  // namespace

Machine measure_links(Communicator& ranks, const Stream& stream, const std::function<void()>& between) {
  Communicator uncounted = ranks.split(0, ranks.rank());  // its traffic does not count in `ranks`
  const TimedGroup group{uncounted, stream, between};
  const bool on_host = stream.device() == Device::cpu;
  Machine machine;
  const TimedPacking packing(on_host ? 8192 : 65536, group);  // larger than caches, as activations are
  const int repeats = on_host ? 1 : 4;  // so that on a GPU the time of the host is a small fraction
  const double packing_s = packing.seconds(repeats);
  machine.copy_call_s = TimedPacking(1, group).seconds(16);
  machine.copy_bytes_per_s = packing.bytes() / std::max(1e-9, packing_s - machine.copy_call_s);
  if (uncounted.size() > 1) {
    // Long enough that the latency is a small fraction.
    const std::int64_t large = std::int64_t{on_host ? 2 : 64} << 20;
    const TimedExchange short_exchange(8, 1, group);
    machine.latency_s = short_exchange.seconds(8);
    // An exchange with all others has 64 messages or more, so that those that wait for a core do not decide.
    const int peers = uncounted.size() - 1, each = static_cast<int>(ceil_div<std::int64_t>(64, peers)),
              messages = peers * each;
    machine.message_s =
        std::max(0.0, TimedExchange(std::int64_t{8} * messages, peers, group, each).seconds(8) - machine.latency_s) /
        (messages - 1);
    const auto rows = static_cast<std::int64_t>(machine.latency_s * machine.copy_bytes_per_s / TimedPacking::row_bytes);
    machine.latency_overlap =
        overlap(short_exchange, TimedPacking(std::clamp<std::int64_t>(rows, 1, 65536), group), 1, group);
    const auto rate = [&](const TimedExchange& exchange) {
      return static_cast<double>(large) / std::max(1e-9, exchange.seconds(repeats) - machine.latency_s);
    };
    const TimedExchange to_neighbour(large, 1, group);
    machine.bytes_per_s = machine.all_bytes_per_s = rate(to_neighbour);
    const double packings = static_cast<double>(large) / machine.bytes_per_s / std::max(packing_s, 1e-9);
    machine.overlap = overlap(to_neighbour, packing, static_cast<int>(std::clamp(packings, 1.0, 1000.0)), group);
    if (uncounted.size() > 2) machine.all_bytes_per_s = rate(TimedExchange(large, uncounted.size() - 1, group));
  }
  return slowest(machine, uncounted);
}

void measure_kernels(Machine& machine, Communicator& ranks, const Stream& stream,
                     std::span<const OperatorArguments> calls, const TimedShape& shape,
                     const std::function<void()>& between) {
  Communicator uncounted = ranks.split(0, ranks.rank());
  const TimedGroup group{uncounted, stream, between};
  std::vector<std::pair<const OperatorArguments*, KernelTimes>> kernels;
  for (const OperatorArguments& call : calls)
    for (const TimedKernel& kernel : kernels_of(call, shape)) {
      const auto is_kernel = [&](const auto& other) { return other.second.kernel == kernel; };
      if (std::ranges::find(machine.kernels, kernel, &KernelRate::kernel) == machine.kernels.end() &&
          std::ranges::none_of(kernels, is_kernel))
        kernels.emplace_back(&call, KernelTimes{.kernel = kernel});
    }
  // Twice, one after the other: a device may be slower for a second, and then some kernels would seem slower than
  // others.
  for (int sweep = 0; sweep < 2; ++sweep)
    for (auto& [call, times] : kernels) times.measure(*call, shape, group);
  for (const auto& [call, times] : kernels) {
    machine.kernels.push_back(times.rate());
    machine.repeats = machine.repeats && times.repeats;
  }
  machine = slowest(machine, uncounted);
}

Machine slowest(const Machine& machine, Communicator& ranks) {
  Machine all{.latency_s = ranks.max(machine.latency_s),
              .message_s = ranks.max(machine.message_s),
              .bytes_per_s = -ranks.max(-machine.bytes_per_s),
              .all_bytes_per_s = -ranks.max(-machine.all_bytes_per_s),
              .overlap = -ranks.max(-machine.overlap),
              .latency_overlap = -ranks.max(-machine.latency_overlap),
              .copy_bytes_per_s = -ranks.max(-machine.copy_bytes_per_s),
              .copy_call_s = ranks.max(machine.copy_call_s),
              .kernels = machine.kernels,
              .repeats = ranks.max(std::int64_t{!machine.repeats}) == 0};
  for (KernelRate& rate : all.kernels) {
    rate.call_s = ranks.max(rate.call_s);
    rate.element_s = ranks.max(rate.element_s);
  }
  return all;
}

}  // namespace causeway

#include "parallel/cost/measure.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <utility>

#include "kernels/activation.hpp"
#include "kernels/blocked_conv.hpp"
#include "parallel/cost/repeated_seconds.hpp"

namespace causeway {
namespace {

/// The ranks that take part in a timed run, the stream, and the function that is called before each run.
struct TimedGroup {
  Communicator& ranks;
  const Stream& stream;
  const std::function<void()>& between;
};

/// The shortest of `tries` runs, from the start, which is the same on all ranks, until the stream has finished. One run
/// before them is not measured.
double best_seconds(int tries, const TimedGroup& group, const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  const auto& [ranks, stream, between] = group;
  run();
  stream.wait();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < tries; ++i) {
    if (between) between();
    ranks.barrier();
    const auto begin = Clock::now();
    run();
    stream.wait();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

/// The same, measured until the fastest time repeats, for at most about a second; the ranks agree when to stop. At
/// least forty runs: where another program has the cores, many in a row may be disturbed alike, and so repeat.
RepeatedSeconds repeated_seconds(const TimedGroup& group, const std::function<void()>& run) {
  constexpr double most = 1;
  constexpr int fewest = 40, together = 5;
  using Clock = std::chrono::steady_clock;
  RepeatedSeconds times;
  const auto begin = Clock::now();
  for (int runs = together;; runs += together) {
    for (int i = 0; i < together; ++i) times.add(best_seconds(1, group, run));
    const double elapsed = group.ranks.max(std::chrono::duration<double>(Clock::now() - begin).count());
    const bool settled = group.ranks.max(std::int64_t{!times.settled()}) == 0;
    if ((settled && runs >= fewest) || elapsed >= most) return times;
  }
}

/// Seconds of one exchange in which every rank sends `bytes` to the next rank: the mean of `repeats` exchanges.
double ring_seconds(std::int64_t bytes, int repeats, int tries, const TimedGroup& group) {
  const Communicator& ranks = group.ranks;
  const Stream& stream = group.stream;
  const Tensor out = Tensor::zeros(stream, DType::u8, {bytes}), in(stream, DType::u8, {bytes});
  const int right = (ranks.rank() + 1) % ranks.size(), left = (ranks.rank() + ranks.size() - 1) % ranks.size();
  const Transfer transfers[] = {{.peer = right, .send = out.view().as_bytes(), .recv = {}},
                                {.peer = left, .send = {}, .recv = in.view().as_bytes()}};
  return best_seconds(tries, group,
                      [&] {
                        for (int i = 0; i < repeats; ++i) group.ranks.exchange(transfers, group.stream);
                      }) /
         repeats;
}

/// The rate, and whether it could be measured again.
std::pair<double, bool> operations_per_second(const TimedGroup& group, DType dtype) {
  const Stream& stream = group.stream;
  // Enough work that a GPU is fully used; on a CPU, that threads which wait for each other do not take most of the
  // time.
  const std::int64_t tokens = 4096, channels = stream.device() == Device::cpu ? 256 : 1024, taps = 64;
  const Tensor x = Tensor::zeros(stream, dtype, {tokens, channels}), y(stream, dtype, {tokens, channels}),
               filter = Tensor::zeros(stream, dtype, {channels, taps});
  fill(stream, {.value = 1, .y = x});
  fill(stream, {.value = 1, .y = filter});
  const DeviceSegments documents(stream, {0, tokens}, tokens);
  const RepeatedSeconds times = repeated_seconds(group, [&] {
    blocked_conv_forward(stream, {.in = {.q = {}, .k = {}, .v = x, .skip = {}, .segments = documents.view()},
                                  .halo = {},
                                  .taps = filter,
                                  .y = y});
  });
  return {static_cast<double>(tokens * channels * taps) / times.seconds(), times.settled()};
}

}  // namespace

Machine measure(Communicator& ranks, DType dtype, const Stream& stream, const std::function<void()>& between) {
  Communicator uncounted = ranks.split(0, ranks.rank());  // its traffic does not count in `ranks`
  const TimedGroup group{uncounted, stream, between};
  const auto [rate, repeats] = operations_per_second(group, dtype);
  Machine machine{.operations_per_s = rate, .repeats = repeats};
  if (uncounted.size() > 1) {
    // Long enough that the latency, and on a GPU the time of the host, is a small fraction.
    const bool on_host = stream.device() == Device::cpu;
    const std::int64_t large = std::int64_t{on_host ? 2 : 64} << 20;
    machine.latency_s = ring_seconds(8, 8, 10, group);
    machine.bytes_per_s =
        static_cast<double>(large) / std::max(1e-9, ring_seconds(large, on_host ? 1 : 4, 4, group) - machine.latency_s);
  }
  return slowest(machine, uncounted);
}

Machine slowest(const Machine& machine, Communicator& ranks) {
  return {.latency_s = ranks.max(machine.latency_s),
          .bytes_per_s = -ranks.max(-machine.bytes_per_s),
          .operations_per_s = -ranks.max(-machine.operations_per_s),
          .repeats = ranks.max(std::int64_t{!machine.repeats}) == 0};
}

}  // namespace causeway

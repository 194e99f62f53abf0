#include "parallel/cost/timed_group.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

namespace causeway {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

}  // namespace

double TimedGroup::timed_run(const std::function<void()>& run) const {
  if (between) between();
  ranks.barrier();
  const auto begin = Clock::now();
  run();
  stream.wait();
  return seconds_since(begin);
}

double TimedGroup::median_seconds(int tries, const std::function<void()>& run) const {
  run();
  stream.wait();
  std::vector<double> times;
  for (int i = 0; i < tries; ++i) times.push_back(timed_run(run));
  const auto middle = times.begin() + tries / 2;
  std::ranges::nth_element(times, middle);
  return *middle;
}

RepeatedSeconds TimedGroup::repeated_seconds(double most, const std::function<void()>& run) const {
  constexpr int fewest = 5;
  RepeatedSeconds times;
  run();
  stream.wait();
  const auto begin = Clock::now();
  for (int runs = 1;; ++runs) {
    times.add(timed_run(run));
    // All ranks must stop after the same run.
    const bool settled = runs >= fewest && times.settled();
    if (ranks.max(std::int64_t{!settled}) == 0 || ranks.max(seconds_since(begin)) >= most) return times;
  }
}

}  // namespace causeway

#include "src/runtime/stopwatch.hpp"

#include <algorithm>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/core/event.hpp"

namespace causeway {

Stopwatch::Stopwatch(const Stream& stream, double least_seconds)
    : stream_(stream),
      least_seconds_(least_seconds),
      flush_(Tensor::zeros(stream, DType::f32, {size_for(stream, 64, 256) * (1 << 20) / 4})),
      sum_(Tensor::zeros(stream, DType::f64, {1})) {}

double Stopwatch::timed_run(const std::function<void()>& run) const {
  sum_of_squares(stream_, {.x = flush_, .sum = sum_});
  const Event begin(stream_, true);
  run();
  const Event end(stream_, true);
  end.wait();
  return end.seconds_since(begin);
}

RepeatedSeconds Stopwatch::repeated_seconds(double most, const std::function<void()>& run) const {
  run();  // warm-up
  RepeatedSeconds times;
  while (!times.settled() && times.total() <= most) times.add(timed_run(run));
  return times;
}

double Stopwatch::median_seconds(const std::function<void()>& run) const {
  constexpr std::size_t warm_up = 2, fewest = 5, most = 100;
  for (std::size_t i = 0; i < warm_up; ++i) run();
  std::vector<double> seconds;
  for (double total = 0; seconds.size() < fewest || (total < least_seconds_ && seconds.size() < most);
       total += seconds.back()) {
    seconds.push_back(timed_run(run));
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::ranges::nth_element(seconds, middle);
  return *middle;
}

}  // namespace causeway

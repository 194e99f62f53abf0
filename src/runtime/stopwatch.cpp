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

double Stopwatch::median_seconds(const std::function<void()>& run) const {
  constexpr std::size_t warm_up = 2, fewest = 5, most = 100;
  for (std::size_t i = 0; i < warm_up; ++i) run();
  std::vector<double> seconds;
  for (double total = 0; seconds.size() < fewest || (total < least_seconds_ && seconds.size() < most);
       total += seconds.back()) {
    sum_of_squares(stream_, {.x = flush_, .sum = sum_});
    const Event begin(stream_, true);
    run();
    const Event end(stream_, true);
    end.wait();
    seconds.push_back(end.seconds_since(begin));
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::ranges::nth_element(seconds, middle);
  return *middle;
}

}  // namespace causeway

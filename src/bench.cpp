#include "src/bench.hpp"

#include <algorithm>
#include <chrono>

#include "kernels/reorder.hpp"

namespace causeway {

double median_seconds(const Task& task, const Stream& stream, double least_seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t fewest = 5, most = 1000;
  task.run();
  stream.wait();
  std::vector<double> seconds;
  for (double total = 0; seconds.size() < fewest || (total < least_seconds && seconds.size() < most); total += seconds.back()) {
    const auto begin = Clock::now();
    task.run();
    stream.wait();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

Measurement measure_copy(const Stream& stream, double least_seconds) {
  const Shape shape{65536, 1024};  // 256 MiB: beyond the caches it may share with others
  const Tensor from = Tensor::zeros(stream, DType::f32, shape), to = Tensor::zeros(stream, DType::f32, shape);
  const RowRange all{.count = shape[0]};
  const Task task{.run = [&] { copy_rows(stream, {.x = from, .ranges = {&all, 1}, .y = to}); }, .bytes = 2 * from.view().bytes()};
  return {.name = "memory copy", .shape = shape.to_string(), .seconds = median_seconds(task, stream, least_seconds), .bytes = task.bytes};
}

}  // namespace causeway

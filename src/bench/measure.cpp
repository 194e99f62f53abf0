#include "src/bench/measure.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/event.hpp"
#include "kernels/gemm.hpp"
#include "kernels/probe.hpp"
#include "kernels/reorder.hpp"
#include "src/bench/made_tensors.hpp"

namespace causeway {
namespace {

constexpr std::int64_t mebibyte = 1 << 20;

/// A size that fills the device at hand.
std::int64_t fitting(const Stream& stream, std::int64_t on_cpu, std::int64_t on_gpu) {
  return stream.device() == Device::cuda ? on_gpu : on_cpu;
}

/// Bytes of memory read and written a second, by the stream's own copy or by the kernel that moves rows: the first is
/// one thread's on the CPU.
double copy_rate(const Stopwatch& stopwatch) {
  MadeTensors tensors(stopwatch.stream());
  const std::int64_t bytes = fitting(stopwatch.stream(), 256, 512) * mebibyte;
  const TensorView from = tensors.random(DType::f32, {bytes / 4096, 1024}), to = tensors.empty(DType::f32, from.shape);
  const RowRange all{.count = from.rows()};
  const Task by_stream{.run = [&] { tensors.stream().copy(to.data, from.data, bytes); }};
  const Task by_kernel{.run = [&] { copy_rows(tensors.stream(), {.x = from, .ranges = {&all, 1}, .y = to}); }};
  return 2. * static_cast<double>(bytes) /
         std::min(stopwatch.median_seconds(by_stream), stopwatch.median_seconds(by_kernel));
}

double exponential_rate(const Stopwatch& stopwatch, DType dtype) {
  MadeTensors tensors(stopwatch.stream());
  const std::int64_t count = fitting(stopwatch.stream(), 1, 16) * mebibyte;
  const RepeatedExponential args{.x = tensors.random(accumulator_of(dtype), {count}),
                                 .times = fitting(stopwatch.stream(), 16, 256),
                                 .y = tensors.empty(accumulator_of(dtype), {count})};
  return static_cast<double>(count * args.times) /
         stopwatch.median_seconds({.run = [&] { repeated_exponential(tensors.stream(), args); }});
}

}  // namespace

Floor floor_of(const Task& task, const Ceilings& ceilings) {
  return std::max(
      {Floor{task.bytes / ceilings.bytes_per_second, "copy"}, Floor{task.flops / ceilings.flops_per_second, "gemm"},
       Floor{task.exponentials / ceilings.exponentials_per_second, "exp2"}},
      [](const Floor& a, const Floor& b) { return a.seconds < b.seconds; });
}

Stopwatch::Stopwatch(const Stream& stream, double least_seconds)
    : stream_(stream),
      least_seconds_(least_seconds),
      flush_(Tensor::zeros(stream, DType::f32, {fitting(stream, 64, 256) * mebibyte / 4})),
      sum_(Tensor::zeros(stream, DType::f64, {1})) {}

double Stopwatch::median_seconds(const Task& task) const {
  constexpr std::size_t warm_up = 2, fewest = 5, most = 100;
  for (std::size_t run = 0; run < warm_up; ++run) task.run();
  std::vector<double> seconds;
  for (double total = 0; seconds.size() < fewest || (total < least_seconds_ && seconds.size() < most);
       total += seconds.back()) {
    sum_of_squares(stream_, {.x = flush_, .sum = sum_});
    const Event begin(stream_, true);
    task.run();
    const Event end(stream_, true);
    end.wait();
    seconds.push_back(end.seconds_since(begin));
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::ranges::nth_element(seconds, middle);
  return *middle;
}

double gemm_rate(const Stopwatch& stopwatch, DType dtype) {
  MadeTensors tensors(stopwatch.stream());
  const std::int64_t n = fitting(stopwatch.stream(), 1024, 8192);
  Gemm args{.a = tensors.random(dtype, {n, n}), .b = tensors.random(dtype, {n, n}), .c = tensors.empty(dtype, {n, n})};
  double seconds = std::numeric_limits<double>::infinity();
  for (const auto& [a, b] : {std::pair{false, false}, {false, true}, {true, false}}) {
    args.transpose_a = a;
    args.transpose_b = b;
    seconds = std::min(seconds, stopwatch.median_seconds({.run = [&] { gemm(tensors.stream(), args); }}));
  }
  const auto side = static_cast<double>(n);
  return 2 * side * side * side / seconds;
}

Ceilings measure_ceilings(const Stopwatch& stopwatch, DType dtype) {
  return {.bytes_per_second = copy_rate(stopwatch),
          .flops_per_second = gemm_rate(stopwatch, dtype),
          .exponentials_per_second = exponential_rate(stopwatch, dtype)};
}

}  // namespace causeway

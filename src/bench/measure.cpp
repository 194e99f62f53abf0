#include "src/bench/measure.hpp"

#include <algorithm>

#include "kernels/probe.hpp"
#include "kernels/reorder.hpp"
#include "src/runtime/benchmark_tensors.hpp"
#include "src/runtime/gemm_rate.hpp"

namespace causeway {
namespace {

/// Bytes read and written per second: the faster of the stream's copy, which uses one thread on the CPU, and the kernel
/// that copies rows.
double copy_rate(const Stopwatch& stopwatch) {
  BenchmarkTensors tensors(stopwatch.stream());
  const std::int64_t bytes = size_for(stopwatch.stream(), 256, 512) * (1 << 20);
  const TensorView from = tensors.random(DType::f32, {bytes / 4096, 1024}), to = tensors.empty(DType::f32, from.shape);
  const RowRange all{.count = from.rows()};
  const double by_stream = stopwatch.median_seconds([&] { tensors.stream().copy(to.data, from.data, bytes); });
  const double by_kernel = stopwatch.median_seconds([&] {
    copy_rows(tensors.stream(), {.x = from, .ranges = {&all, 1}, .y = to});
  });
  return 2. * static_cast<double>(bytes) / std::min(by_stream, by_kernel);
}

double exponential_rate(const Stopwatch& stopwatch, DType dtype) {
  BenchmarkTensors tensors(stopwatch.stream());
  const std::int64_t count = size_for(stopwatch.stream(), 1, 16) * (1 << 20);
  const RepeatedExponential args{.x = tensors.random(accumulator_of(dtype), {count}),
                                 .times = size_for(stopwatch.stream(), 16, 256),
                                 .y = tensors.empty(accumulator_of(dtype), {count})};
  return static_cast<double>(count * args.times) /
         stopwatch.median_seconds([&] { repeated_exponential(tensors.stream(), args); });
}

}  // namespace

Floor floor_of(const Task& task, const Ceilings& ceilings) {
  return std::max(
      {Floor{task.bytes / ceilings.bytes_per_second, "copy"}, Floor{task.flops / ceilings.flops_per_second, "gemm"},
       Floor{task.exponentials / ceilings.exponentials_per_second, "exp2"}},
      [](const Floor& a, const Floor& b) { return a.seconds < b.seconds; });
}

Ceilings measure_ceilings(const Stopwatch& stopwatch, DType dtype) {
  return {.bytes_per_second = copy_rate(stopwatch),
          .flops_per_second = gemm_rate(stopwatch, dtype).flops_per_s,
          .exponentials_per_second = exponential_rate(stopwatch, dtype)};
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace causeway

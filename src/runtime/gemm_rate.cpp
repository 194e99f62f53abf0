#include "src/runtime/gemm_rate.hpp"

#include <utility>

#include "kernels/gemm.hpp"
#include "src/runtime/benchmark_tensors.hpp"

namespace causeway {

GemmRate gemm_rate(const Stopwatch& stopwatch, DType dtype) {
  constexpr double most_seconds = 1;  // for each product
  BenchmarkTensors tensors(stopwatch.stream());
  const std::int64_t n = size_for(stopwatch.stream(), 1024, 8192);
  Gemm args{.a = tensors.random(dtype, {n, n}), .b = tensors.random(dtype, {n, n}), .c = tensors.empty(dtype, {n, n})};
  const auto side = static_cast<double>(n);
  GemmRate best;
  for (const auto& [a, b] : {std::pair{false, false}, {false, true}, {true, false}}) {
    args.transpose_a = a;
    args.transpose_b = b;
    const RepeatedSeconds times = stopwatch.repeated_seconds(most_seconds, [&] { gemm(tensors.stream(), args); });
    const GemmRate found{.flops_per_s = 2 * side * side * side / times.seconds(), .repeats = times.settled()};
    if (std::pair(found.repeats, found.flops_per_s) > std::pair(best.repeats, best.flops_per_s)) best = found;
  }
  return best;
}

}  // namespace causeway

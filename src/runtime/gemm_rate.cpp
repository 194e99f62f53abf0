#include "src/runtime/gemm_rate.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/gemm.hpp"
#include "src/runtime/made_tensors.hpp"

namespace causeway {

double gemm_rate(const Stopwatch& stopwatch, DType dtype) {
  MadeTensors tensors(stopwatch.stream());
  const std::int64_t n = size_for(stopwatch.stream(), 1024, 8192);
  Gemm args{.a = tensors.random(dtype, {n, n}), .b = tensors.random(dtype, {n, n}), .c = tensors.empty(dtype, {n, n})};
  double seconds = std::numeric_limits<double>::infinity();
  for (const auto& [a, b] : {std::pair{false, false}, {false, true}, {true, false}}) {
    args.transpose_a = a;
    args.transpose_b = b;
    seconds = std::min(seconds, stopwatch.median_seconds([&] { gemm(tensors.stream(), args); }));
  }
  const auto side = static_cast<double>(n);
  return 2 * side * side * side / seconds;
}

}  // namespace causeway

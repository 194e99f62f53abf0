#include "kernels/probe.hpp"

#include <array>
#include <numbers>

#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/cpu/vector_math.hpp"

namespace causeway::cpu {

void repeated_exponential(const Stream&, const RepeatedExponential& args) {
  ensure(args.x.dtype == args.y.dtype, "repeated_exponential from {} to {}", name_of(args.x.dtype),
         name_of(args.y.dtype));
  dispatch(args.x.dtype, [&]<class T>() {
    using Wide = Accumulator<T>;
    constexpr auto base = -std::numbers::ln2_v<Wide>;
    for_each_run({args.x, args.y}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      const T* x = args.x.row<T>(row) + column;
      T* y = args.y.row<T>(row) + column;
      std::array<Wide, run_length> values;  // stays in the first-level cache
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = x[i];
      for (std::int64_t time = 0; time < args.times; ++time) {
        Wide* v = values.data();
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) v[i] = exponential(base * v[i]);
      }
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) y[i] = values[static_cast<std::size_t>(i)];
    });
  });
}

}  // namespace causeway::cpu

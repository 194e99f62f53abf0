#include "kernels/probe.hpp"

#include <array>
#include <numbers>

#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/cpu/vector_math.hpp"

namespace causeway::cpu {

void repeated_exponential(const Stream&, const RepeatedExponential& args) {
  ensure(args.x.dtype == args.y.dtype, "repeated_exponential: x is {}, y is {}, expected one type",
         name_of(args.x.dtype), name_of(args.y.dtype));
  dispatch(args.x.dtype, [&]<class T>() {
    using Wide = Accumulator<T>;
    constexpr auto base = -std::numbers::ln2_v<Wide>;
    for_each_span({args.x, args.y}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      const T* x = args.x.row<T>(row) + column;
      T* y = args.y.row<T>(row) + column;
      std::array<Wide, span_length> values;  // stays in the L1 cache
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = x[i];
      for (std::int64_t repeat = 0; repeat < args.times; ++repeat) {
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

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"

#include <type_traits>

#include "kernels/cpu/partial_sums.hpp"
#include "kernels/cpu/pointwise/elementwise.hpp"
#include "kernels/cpu/vector_math.hpp"
#include "kernels/expect.hpp"

namespace causeway::cpu {

void scale(const Stream&, const Scale& args) {
  const TensorView x = args.x, y = args.y;
  dispatch(x.dtype, [&]<class X>() {
    dispatch(y.dtype, [&]<class Y>() {
      using Wide = std::common_type_t<Accumulator<X>, Accumulator<Y>>;
      const auto alpha = static_cast<Wide>(args.alpha);
      for_each_span({x, y}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
        const X* from = x.row<X>(row) + column;
        Y* to = y.row<Y>(row) + column;
        if (args.accumulate) {
#pragma omp simd
          for (std::int64_t i = 0; i < count; ++i)
            to[i] = static_cast<Accumulator<Y>>(static_cast<Wide>(to[i]) + alpha * static_cast<Wide>(from[i]));
        } else {
#pragma omp simd
          for (std::int64_t i = 0; i < count; ++i)
            to[i] = static_cast<Accumulator<Y>>(alpha * static_cast<Wide>(from[i]));
        }
      });
    });
  });
}

void sum_of_rank_parts(const Stream&, const SumOfRankParts& args) {
  expect("sum_of_rank_parts: received", args.received, args.received.dtype, {args.received.rows(), args.y.size()});
  expect("sum_of_rank_parts: own", args.own, args.y.dtype, args.y.shape);
  dispatch(args.received.dtype, [&]<class X>() {
    dispatch(args.y.dtype, [&]<class Y>() {
      using Wide = Accumulator<Y>;
      for_each_span({args.own, args.y}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
        Wide total[span_length];
        const auto part = [&](std::int64_t rank, const auto& take) {
          if (rank == args.rank) {
            const Y* from = args.own.row<Y>(row) + column;
#pragma omp simd
            for (std::int64_t i = 0; i < count; ++i) take(total[i], static_cast<Wide>(from[i]));
          } else {
            const X* from = args.received.row<X>(rank) + column;
#pragma omp simd
            for (std::int64_t i = 0; i < count; ++i) take(total[i], static_cast<Wide>(from[i]));
          }
        };
        part(0, [](Wide& sum, Wide x) { sum = x; });
        for (std::int64_t rank = 1; rank < args.received.rows(); ++rank)
          part(rank, [](Wide& sum, Wide x) { sum += x; });
        Y* to = args.y.row<Y>(row) + column;
        for (std::int64_t i = 0; i < count; ++i)
          to[i] = args.accumulate ? static_cast<Wide>(to[i]) + total[i] : total[i];
      });
    });
  });
}

void fill(const Stream&, const Fill& args) {
  dispatch(args.y.dtype, [&]<class T>() {
    const T value(static_cast<Accumulator<T>>(args.value));
    for_each_span({args.y}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      std::fill_n(args.y.row<T>(row) + column, count, value);
    });
  });
}

void negative_exponential(const Stream&, const NegativeExponential& args) {
  ensure(args.x.dtype == args.y.dtype, "negative_exponential: x is {}, y is {}, expected one type",
         name_of(args.x.dtype), name_of(args.y.dtype));
  dispatch(args.x.dtype, [&]<class T>() {
    for_each_span({args.x, args.y}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      const T* x = args.x.row<T>(row) + column;
      T* y = args.y.row<T>(row) + column;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i) y[i] = -exponential(static_cast<Accumulator<T>>(x[i]));
    });
  });
}

void negative_exponential_backward(const Stream&, const NegativeExponentialBackward& args) {
  ensure(args.y.dtype == args.d_y.dtype && args.y.dtype == args.d_x.dtype,
         "negative_exponential_backward: y is {}, d_y is {}, d_x is {}, expected one type", name_of(args.y.dtype),
         name_of(args.d_y.dtype), name_of(args.d_x.dtype));
  dispatch(args.y.dtype, [&]<class T>() {
    using Wide = Accumulator<T>;
    for_each_span({args.y, args.d_y, args.d_x}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      const T* y = args.y.row<T>(row) + column;
      const T* d_y = args.d_y.row<T>(row) + column;
      T* d_x = args.d_x.row<T>(row) + column;
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i)
        d_x[i] = static_cast<Wide>(d_x[i]) + static_cast<Wide>(d_y[i]) * static_cast<Wide>(y[i]);
    });
  });
}

void sum_of_elements(const Stream&, const SumOfElements& args) {
  const std::span<double> sum = args.sum.as<double>();
  ensure(sum.size() == 1, "sum_of_elements: sum is {}, expected one element", args.sum.shape.to_string());
  if (args.x.size() == 0) return;
  double total = 0;
  dispatch(args.x.dtype, [&]<class T>() {
    for (std::int64_t row = 0; row < args.x.rows(); ++row)
      for (std::int64_t i = 0; i < args.x.columns(); ++i)
        total += static_cast<double>(static_cast<Accumulator<T>>(args.x.row<T>(row)[i]));
  });
  sum[0] += total;
}

void sum_of_squares(const Stream& stream, const SumOfSquares& args) {
  const TensorView x = args.x;
  const std::span<double> sum = args.sum.as<double>();
  ensure(sum.size() == 1, "sum_of_squares: sum is {}, expected one element", args.sum.shape.to_string());
  if (x.size() == 0) return;
  const bool dense = x.dense();
  const std::int64_t columns = dense ? x.size() : x.columns(), spans = ceil_div(columns, span_length);
  const Tensor partial(stream, DType::f64, {dense ? 1 : x.rows(), spans});  // one sum for each span
  dispatch(x.dtype, [&]<class T>() {
    for_each_span({x}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
      const T* from = x.row<T>(row) + column;
      double span_sum = 0;
#pragma omp simd reduction(+ : span_sum)
      for (std::int64_t i = 0; i < count; ++i) span_sum += static_cast<double>(from[i]) * static_cast<double>(from[i]);
      partial.view().row<double>(row)[column / span_length] = span_sum;
    });
  });
  add_parts(sum.data(), 1, partial.view().row<const double>(0), partial.view().size(), 1);
}

}  // namespace causeway::cpu

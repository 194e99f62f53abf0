#include "kernels/fp8.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/openmp.hpp"
#include "kernels/expect_fp8.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t most_columns = 256;  ///< of a matrix scaled by columns that a thread takes at a time

template <class T>
T rounded(T x, double scale, Fp8Format format) {
  return static_cast<T>(static_cast<Accumulator<T>>(rounded_to_fp8(static_cast<double>(x), scale, format)));
}

/// y = x rounded, for `count` columns from `column` on, which are scaled one by one.
template <class T>
void round_columns(const RoundToFp8& args, std::int64_t column, std::int64_t count) {
  double largest[most_columns] = {}, scale[most_columns];
  for (std::int64_t r = 0; r < args.x.rows(); ++r) {
    const T* x = args.x.row<T>(r) + column;
    for (std::int64_t i = 0; i < count; ++i)
      if (const double magnitude = std::abs(static_cast<double>(x[i])); std::isfinite(magnitude))
        largest[i] = std::max(largest[i], magnitude);
  }
  for (std::int64_t i = 0; i < count; ++i) scale[i] = fp8_scale(largest[i], args.format);
  for (std::int64_t r = 0; r < args.x.rows(); ++r) {
    const T* x = args.x.row<T>(r) + column;
    T* y = args.y.row<T>(r) + column;
    for (std::int64_t i = 0; i < count; ++i) y[i] = rounded(x[i], scale[i], args.format);
  }
}

/// y = x rounded, for a row, which has one scale.
template <class T>
void round_row(const RoundToFp8& args, std::int64_t row) {
  const T* x = args.x.row<T>(row);
  T* y = args.y.row<T>(row);
  double largest = 0;
  for (std::int64_t i = 0; i < args.x.columns(); ++i)
    if (const double magnitude = std::abs(static_cast<double>(x[i])); std::isfinite(magnitude))
      largest = std::max(largest, magnitude);
  const double scale = fp8_scale(largest, args.format);
  for (std::int64_t i = 0; i < args.x.columns(); ++i) y[i] = rounded(x[i], scale, args.format);
}

}  // namespace

void round_to_fp8(const Stream&, const RoundToFp8& args) {
  expect_round_to_fp8(args);
  const std::int64_t rows = args.x.rows(), columns = args.x.columns();
  dispatch(args.x.dtype, [&]<class T>() {
    if (args.by_columns) {
#pragma omp parallel for schedule(static) if (rows * columns > min_parallel_work)
      for (std::int64_t column = 0; column < columns; column += most_columns)
        round_columns<T>(args, column, std::min(most_columns, columns - column));
    } else {
#pragma omp parallel for schedule(static) if (rows * columns > min_parallel_work)
      for (std::int64_t row = 0; row < rows; ++row) round_row<T>(args, row);
    }
  });
}

}  // namespace causeway::cpu

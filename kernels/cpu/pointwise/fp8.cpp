#include "kernels/fp8/fp8.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/openmp.hpp"
#include "kernels/fp8/expect_fp8.hpp"
#include "kernels/gemm.hpp"

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

/// The largest finite magnitude of `count` values, `stride` elements apart.
double largest_magnitude(const bf16* x, std::int64_t count, std::int64_t stride) {
  double largest = 0;
  for (std::int64_t i = 0; i < count; ++i)
    if (const double magnitude = std::abs(static_cast<double>(x[i * stride])); std::isfinite(magnitude))
      largest = std::max(largest, magnitude);
  return largest;
}

std::uint8_t code_of(double quotient, Fp8Format format) {
  return format == Fp8Format::e4m3 ? E4m3(quotient).bits : E5m2(quotient).bits;
}

/// The numbers that a matrix stands for, in f32.
Tensor decoded(const Stream& stream, const Fp8Matrix& x) {
  Tensor y(stream, DType::f32, x.codes.shape);
  for (std::int64_t r = 0; r < x.codes.rows(); ++r) {
    const std::uint8_t* codes = x.codes.row<std::uint8_t>(r);
    const double scale = x.scales.as<float>()[r];
    float* to = y.view().row<float>(r);
    for (std::int64_t i = 0; i < x.codes.columns(); ++i) {
      const double value = x.format == Fp8Format::e4m3 ? static_cast<double>(std::bit_cast<E4m3>(codes[i]))
                                                       : static_cast<double>(std::bit_cast<E5m2>(codes[i]));
      to[i] = static_cast<float>(scale * value);
    }
  }
  return y;
}

}  // namespace

void quantise_to_fp8(const Stream&, const QuantiseToFp8& args) {
  expect_quantise_to_fp8(args);
  const std::int64_t rows = args.codes.rows(), columns = args.by_columns ? args.x.rows() : args.x.columns(),
                     stride = args.by_columns ? args.x.row_stride : 1;
#pragma omp parallel for schedule(static) if (rows * columns > min_parallel_work)
  for (std::int64_t r = 0; r < rows; ++r) {
    const bf16* x = args.by_columns ? static_cast<const bf16*>(args.x.data) + r : args.x.row<bf16>(r);
    std::uint8_t* codes = args.codes.row<std::uint8_t>(r);
    const double scale = fp8_scale(largest_magnitude(x, columns, stride), args.format);
    for (std::int64_t i = 0; i < columns; ++i)
      codes[i] = code_of(static_cast<double>(x[i * stride]) / scale, args.format);
    std::fill(codes + columns, codes + args.codes.columns(), std::uint8_t{0});
    args.scales.as<float>()[r] = static_cast<float>(scale);
  }
}

void transpose_fp8(const Stream&, const TransposeFp8& args) {
  expect_transpose_fp8(args);
  const TensorView from = args.x.codes;
  const std::int64_t rows = from.rows();
  const bool wide = args.x.format == Fp8Format::e5m2;
  std::vector<double> scales(static_cast<std::size_t>(rows), 1);  // of the numbers that are transposed
  for (std::size_t r = 0; wide && r < scales.size(); ++r)
    scales[r] = double{args.x.scales.as<float>()[r]} * (args.others.present() ? args.others.as<float>()[r] : 1);
  const double largest = rows == 0 ? 1 : *std::ranges::max_element(scales);
#pragma omp parallel for schedule(static) if (from.size() > min_parallel_work)
  for (std::int64_t c = 0; c < from.columns(); ++c) {
    std::uint8_t* to = args.codes.row<std::uint8_t>(c);
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::uint8_t code = from.row<std::uint8_t>(r)[c];
      const bool changes = wide && (code & ~E5m2::sign_bit) <= E5m2::largest_code;
      const double factor = scales[static_cast<std::size_t>(r)] / largest;
      to[r] = changes ? E5m2(factor * static_cast<double>(std::bit_cast<E5m2>(code))).bits : code;
    }
    std::fill(to + rows, to + args.codes.columns(), std::uint8_t{0});
    args.scales.as<float>()[c] = static_cast<float>(largest);
  }
}

void fp8_gemm(const Stream& stream, const Fp8Gemm& args) {
  expect_fp8_gemm(args);
  const Tensor a = decoded(stream, args.a), b = decoded(stream, args.b);
  if (args.c.dtype == DType::f32)
    return gemm(stream, {.a = a, .b = b, .transpose_b = true, .beta = args.beta, .c = args.c});
  // bf16 holds the numbers exactly, except 2^128, which is infinity in both.
  const auto narrow = [&](TensorView x) {
    Tensor y(stream, DType::bf16, x.shape);
    for (std::int64_t i = 0; i < x.size(); ++i) y.view().as<bf16>()[i] = x.as<float>()[i];
    return y;
  };
  gemm(stream, {.a = narrow(a), .b = narrow(b), .transpose_b = true, .beta = args.beta, .c = args.c});
}

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

#include "kernels/gemm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

struct Case {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b;
  double beta;
};

/// Σ_l op(a)[i,l]·op(b)[l,j] + beta·c[i,j], in float64.
std::vector<double> reference(const Case& of, std::span<const double> a, std::span<const double> b,
                              std::span<const double> c) {
  std::vector<double> result(static_cast<std::size_t>(of.m * of.n));
  for (std::int64_t i = 0; i < of.m; ++i)
    for (std::int64_t j = 0; j < of.n; ++j) {
      const auto at = static_cast<std::size_t>(i * of.n + j);
      double sum = of.beta == 0 ? 0 : of.beta * c[at];
      for (std::int64_t l = 0; l < of.k; ++l)
        sum += a[static_cast<std::size_t>(of.transpose_a ? l * of.m + i : i * of.k + l)] *
               b[static_cast<std::size_t>(of.transpose_b ? j * of.k + l : l * of.n + j)];
      result[at] = sum;
    }
  return result;
}

constexpr std::int64_t extents[][3] = {{1, 1, 1},      {3, 5, 7}, {17, 1, 33}, {1, 40, 9}, {65, 130, 257},
                                       {100, 70, 520}, {4, 6, 0}, {0, 5, 3},   {5, 0, 3}};

class GemmOfEveryType : public testing::TestWithParam<DType> {};

TEST_P(GemmOfEveryType, EqualsTheSumInFloat64WithAnyTransposesBetasAndStrides) {
  const DType dtype = GetParam();
  const Stream stream;
  for (const auto& [m, n, k] : extents)
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true})
        for (const double beta : {0.0, 1.0, -0.5})
          for (const DType c_type : {dtype, accumulator_of(dtype)}) {
            const Case of{m, n, k, transpose_a, transpose_b, beta};
            const Tensor a = random_tensor(stream, dtype, transpose_a ? Shape{k, m} : Shape{m, k}, 1),
                         b = random_tensor(stream, dtype, transpose_b ? Shape{n, k} : Shape{k, n}, 2),
                         c = random_tensor(stream, c_type, {m, n}, 3);
            const Padded wide_a(stream, a), wide_b(stream, b, 1, 4), wide_c(stream, c);
            const double tolerance = (c_type == DType::bf16 ? 2 : 32) * rounding_of(c_type);
            const auto expected = reference(of, values_of(a), values_of(b), values_of(c));
            gemm(stream,
                 {.a = a, .b = b, .transpose_a = transpose_a, .transpose_b = transpose_b, .beta = beta, .c = c});
            gemm(stream, {.a = wide_a,
                          .b = wide_b,
                          .transpose_a = transpose_a,
                          .transpose_b = transpose_b,
                          .beta = beta,
                          .c = wide_c});
            EXPECT_LT(relative_error(values_of(c), expected), tolerance)
                << m << " " << n << " " << k << transpose_a << transpose_b << beta;
            EXPECT_LT(relative_error(values_of(wide_c), expected), tolerance)
                << m << " " << n << " " << k << transpose_a << transpose_b << beta;
            EXPECT_TRUE(wide_c.padding_untouched());
          }
}

TEST_P(GemmOfEveryType, DoesNotReadCWhereBetaIsZero) {
  const Stream stream;
  for (const std::int64_t k : {0, 12}) {
    const Tensor a = random_tensor(stream, GetParam(), {5, k}, 1), b = random_tensor(stream, GetParam(), {k, 9}, 2),
                 c(stream, GetParam(), {5, 9});
    assign(c, std::vector<double>(45, std::numeric_limits<double>::quiet_NaN()));
    gemm(stream, {.a = a, .b = b, .c = c});
    for (const double value : values_of(c)) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST_P(GemmOfEveryType, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const Tensor a = random_tensor(stream, GetParam(), {515, 700}, 1),
               b = random_tensor(stream, GetParam(), {700, 333}, 2);
  const Tensor one(stream, GetParam(), {515, 333}), several(stream, GetParam(), {515, 333});
  with_threads(1, [&] { gemm(stream, {.a = a, .b = b, .c = one}); });
  for (const int threads : {2, 3, 5}) {
    with_threads(threads, [&] { gemm(stream, {.a = a, .b = b, .c = several}); });
    EXPECT_TRUE(same_bits(one, several)) << threads;
  }
}

TEST_P(GemmOfEveryType, KeepsANanInItsRow) {
  const Stream stream;
  const Tensor a = random_tensor(stream, GetParam(), {70, 30}, 1), b = random_tensor(stream, GetParam(), {30, 40}, 2),
               c(stream, GetParam(), {70, 40});
  assign(a.view().slice_rows(33, 1), std::vector<double>(30, std::numeric_limits<double>::quiet_NaN()));
  gemm(stream, {.a = a, .b = b, .c = c});
  for (std::int64_t row = 0; row < 70; ++row)
    for (const double value : values_of(c.view().slice_rows(row, 1))) EXPECT_EQ(std::isnan(value), row == 33);
}

INSTANTIATE_TEST_SUITE_P(Types, GemmOfEveryType, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

TEST(Gemm, RefusesShapesAndTypesThatDoNotFit) {
  const Stream stream;
  const Tensor a(stream, DType::f32, {3, 4}), b(stream, DType::f32, {4, 5}), c(stream, DType::f32, {3, 6}),
      d(stream, DType::f64, {3, 5});
  EXPECT_THROW(gemm(stream, {.a = a, .b = b, .c = c}), Error);
  EXPECT_THROW(gemm(stream, {.a = b, .b = a, .c = c}), Error);
  EXPECT_THROW(gemm(stream, {.a = a, .b = b, .c = d}), Error);
}

TEST(Gemm, Bf16NeedsBoundedScratch) {
  const Stream stream;
  const Tensor a = random_tensor(stream, DType::bf16, {64, 20000}, 1),
               b = random_tensor(stream, DType::bf16, {20000, 64}, 2), c(stream, DType::bf16, {64, 64});
  with_threads(2, [&] {
    stream.memory().reset_peak();
    const std::int64_t before = stream.memory().live_bytes();
    gemm(stream, {.a = a, .b = b, .c = c});
    EXPECT_LT(stream.memory().peak_bytes() - before, 2 * 4 * (320 * 512 + 64 * 64) + 4096);
  });
}

}  // namespace
}  // namespace causeway::test

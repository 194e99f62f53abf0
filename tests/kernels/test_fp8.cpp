#include "kernels/fp8/fp8.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/gemm.hpp"
#include "tests/support/gpu.hpp"
#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();

double value_of(Fp8Format format, int code) {
  const auto bits = static_cast<std::uint8_t>(code);
  if (format == Fp8Format::e4m3) return static_cast<double>(std::bit_cast<E4m3>(bits));
  return static_cast<double>(std::bit_cast<E5m2>(bits));
}

int code_of(Fp8Format format, double value) { return format == Fp8Format::e4m3 ? E4m3(value).bits : E5m2(value).bits; }

class Fp8Conversion : public testing::TestWithParam<Fp8Format> {
 protected:
  Fp8Format format = GetParam();
  int largest = format == Fp8Format::e4m3 ? E4m3::largest_code : E5m2::largest_code;
};

// The values of OFP8's table 1.
TEST_P(Fp8Conversion, HasTheNumbersOfTheStandard) {
  const bool narrow = format == Fp8Format::e4m3;
  EXPECT_EQ(value_of(format, largest), narrow ? 448 : 57344);
  EXPECT_EQ(value_of(format, narrow ? 8 : 4), narrow ? std::ldexp(1, -6) : std::ldexp(1, -14));  // smallest normal
  EXPECT_EQ(value_of(format, 1), narrow ? std::ldexp(1, -9) : std::ldexp(1, -16));
  EXPECT_EQ(value_of(format, narrow ? 0x38 : 0x3c), 1);
  EXPECT_EQ(largest, narrow ? 0x7e : 0x7b);
  if (!narrow) {
    EXPECT_EQ(value_of(format, 0x7c), infinity);
  }
  for (int code = largest + (narrow ? 1 : 2); code < 128; ++code) EXPECT_TRUE(std::isnan(value_of(format, code)));
  for (int code = 0; code < largest; ++code) EXPECT_LT(value_of(format, code), value_of(format, code + 1));
}

TEST_P(Fp8Conversion, ReturnsEveryCodeOfItsValue) {
  for (int code = 0; code < 256; ++code) {
    const double value = value_of(format, code);
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(value_of(format, code_of(format, value)))) << code;
    else
      EXPECT_EQ(code_of(format, value), code);
    EXPECT_EQ(std::signbit(value), code >= 128 && !std::isnan(value)) << code;
  }
}

TEST_P(Fp8Conversion, RoundsToTheNearestAndTiesToTheEvenCode) {
  for (int code = 0; code < largest; ++code)
    for (const double sign : {1., -1.}) {
      const double low = value_of(format, code), high = value_of(format, code + 1), middle = (low + high) / 2;
      const int of_sign = sign < 0 ? 128 : 0;
      EXPECT_EQ(code_of(format, sign * middle), of_sign + code + code % 2) << middle;
      EXPECT_EQ(code_of(format, sign * std::nextafter(middle, 0)), of_sign + code) << middle;
      EXPECT_EQ(code_of(format, sign * std::nextafter(middle, high)), of_sign + code + 1) << middle;
    }
}

TEST_P(Fp8Conversion, EndsAtTheLargestNumber) {
  const double last = value_of(format, largest), step = last - value_of(format, largest - 1), end = last + step / 2;
  EXPECT_EQ(code_of(format, std::nextafter(end, 0)), largest);
  EXPECT_EQ(code_of(format, end), largest + largest % 2);  // a tie
  for (const double above : {std::nextafter(end, infinity), 2 * last, std::numeric_limits<double>::max(), infinity}) {
    const double positive = value_of(format, code_of(format, above)),
                 negative = value_of(format, code_of(format, -above));
    if (format == Fp8Format::e4m3) {
      EXPECT_TRUE(std::isnan(positive) && std::isnan(negative)) << above;
    } else {
      EXPECT_EQ(positive, infinity) << above;
      EXPECT_EQ(negative, -infinity) << above;
    }
  }
  for (const double tiny : {5e-324, 1e-40, value_of(format, 1) / 2}) EXPECT_EQ(code_of(format, tiny), 0) << tiny;
}

// Every finite bf16 number has a scale with which it is in the upper half of the format's range, or a tiny one.
TEST_P(Fp8Conversion, ScaleIsTheSmallestPowerOfTwo) {
  const double last = value_of(format, largest);
  for (int bits = 1; bits < 0x7f80; ++bits) {
    const double value = std::bit_cast<bf16>(static_cast<std::uint16_t>(bits)), scale = fp8_scale(value, format);
    int exponent = 0;
    ASSERT_EQ(std::frexp(scale, &exponent), 0.5) << value;
    ASSERT_LE(value / scale, last) << value;
    const double rounded = rounded_to_fp8(value, scale, format);
    if (rounded < std::ldexp(1, 128)) {
      ASSERT_EQ(bf16(static_cast<float>(rounded)), rounded) << value;
    }
    if (scale > std::ldexp(1, -110)) {
      ASSERT_GT(2 * value / scale, last) << value;
      ASSERT_LE(std::abs(rounded - value), value * (format == Fp8Format::e4m3 ? 1. / 16 : 1. / 8)) << value;
    }
  }
  EXPECT_EQ(fp8_scale(0, format), std::ldexp(1, -110));
}

INSTANTIATE_TEST_SUITE_P(Formats, Fp8Conversion, testing::Values(Fp8Format::e4m3, Fp8Format::e5m2),
                         [](const auto& of) { return of.param == Fp8Format::e4m3 ? "e4m3" : "e5m2"; });

class RoundToFp8OfEveryType : public testing::TestWithParam<DType> {};

TEST_P(RoundToFp8OfEveryType, ScalesRowsOrColumnsByTheirLargestMagnitude) {
  const Stream stream;
  for (const Shape& shape : {Shape{7, 5}, Shape{1, 600}, Shape{300, 1}, Shape{40, 530}, Shape{0, 4}})
    for (const Fp8Format format : {Fp8Format::e4m3, Fp8Format::e5m2})
      for (const bool by_columns : {false, true}) {
        const Tensor x = random_tensor(stream, GetParam(), shape, 5, -3, 3), expected(stream, GetParam(), shape);
        std::vector<double> values = values_of(x);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] *= std::ldexp(1, static_cast<int>(i % 7) * 4 - 12);
        assign(x, values);
        const auto at = [&](std::int64_t r, std::int64_t c) -> double& {
          return values[static_cast<std::size_t>(r * shape[1] + c)];
        };
        const std::int64_t groups = by_columns ? shape[1] : shape[0], length = by_columns ? shape[0] : shape[1];
        for (std::int64_t g = 0; g < groups; ++g) {
          double largest = 0;
          for (std::int64_t i = 0; i < length; ++i)
            largest = std::max(largest, std::abs(by_columns ? at(i, g) : at(g, i)));
          for (std::int64_t i = 0; i < length; ++i) {
            double& value = by_columns ? at(i, g) : at(g, i);
            value = rounded_to_fp8(value, fp8_scale(largest, format), format);
          }
        }
        assign(expected, values);
        const Padded wide(stream, x);
        const RoundToFp8 args{.x = x, .format = format, .by_columns = by_columns, .y = x};
        round_to_fp8(stream, {.x = wide, .format = format, .by_columns = by_columns, .y = wide});
        with_threads(3, [&] { round_to_fp8(stream, args); });
        EXPECT_TRUE(same_bits(x, expected)) << shape.to_string() << by_columns;
        EXPECT_TRUE(same_bits(wide, expected) && wide.padding_untouched()) << shape.to_string() << by_columns;
      }
}

TEST_P(RoundToFp8OfEveryType, NaNAndInfinityChangeNoOtherElement) {
  const Stream stream;
  for (const bool by_columns : {false, true}) {
    const Tensor x = random_tensor(stream, GetParam(), {4, 6}, 9, -1, 1), clean(stream, GetParam(), {4, 6});
    std::vector<double> values = values_of(x);
    values[3] = values[20] = 0;
    assign(x, values);
    round_to_fp8(stream, {.x = x, .by_columns = by_columns, .y = clean});
    values[3] = nan, values[20] = -infinity;
    assign(x, values);
    round_to_fp8(stream, {.x = x, .by_columns = by_columns, .y = x});
    const std::vector<double> with = values_of(x), without = values_of(clean);
    for (std::size_t i = 0; i < with.size(); ++i)
      if (i == 3 || i == 20)
        EXPECT_TRUE(std::isnan(with[i])) << i;
      else
        EXPECT_EQ(with[i], without[i]) << i;
  }
}

// What makes the gemm of rounded tensors the definition of a product in FP8: in bf16 the operands are exact.
TEST_P(RoundToFp8OfEveryType, IsExactWhereTheNumbersAreThoseOfTheFormat) {
  const Stream stream;
  const Tensor x(stream, GetParam(), {2, 256}), y(stream, GetParam(), {2, 256});
  for (const Fp8Format format : {Fp8Format::e4m3, Fp8Format::e5m2}) {
    std::vector<double> values;
    for (const double scale : {std::ldexp(1, -90), std::ldexp(1, 70)})
      for (int code = 0; code < 256; ++code) {
        const double value = value_of(format, code);
        values.push_back(std::isfinite(value) ? scale * value : 0);
      }
    assign(x, values);
    round_to_fp8(stream, {.x = x, .format = format, .y = y});
    EXPECT_EQ(values_of(y), values);
  }
}

/// A matrix in 8-bit floats, and the memory that it is in.
struct Quantised {
  Tensor codes, scales;
  Fp8Format format;
  Quantised(const Stream& stream, TensorView x, Fp8Format of, bool by_columns, std::int64_t padding = 0)
      : codes(stream, DType::u8, by_columns ? Shape{x.columns(), x.rows() + padding} : Shape{x.rows(), x.columns()}),
        scales(stream, DType::f32, {codes.view().rows()}),
        format(of) {
    quantise_to_fp8(stream, {.x = x, .format = of, .by_columns = by_columns, .codes = codes, .scales = scales});
  }
  Fp8Matrix matrix() const { return {.codes = codes, .scales = scales, .format = format}; }
};

TEST(QuantiseToFp8, StandsForTheNumbersThatRoundToFp8Writes) {
  const Stream stream;
  for (const Shape& shape : {Shape{7, 5}, Shape{1, 600}, Shape{130, 70}, Shape{3, 0}})
    for (const Fp8Format format : {Fp8Format::e4m3, Fp8Format::e5m2})
      for (const bool by_columns : {false, true}) {
        const Tensor x = random_tensor(stream, DType::bf16, shape, 5, -300, 300), y(stream, DType::bf16, shape);
        std::vector<double> values = values_of(x);
        for (std::size_t i = 0; i < values.size(); ++i) values[i] *= std::ldexp(1, static_cast<int>(i % 9) * 5 - 20);
        if (values.size() > 40) values[7] = nan, values[20] = infinity, values[31] = -infinity;
        assign(x, values);
        round_to_fp8(stream, {.x = x, .format = format, .by_columns = by_columns, .y = y});
        constexpr std::int64_t padding = 3;
        const Padded wide(stream, x);
        const Quantised of(stream, wide, format, by_columns, padding);
        const std::vector<double> expected = values_of(y);
        const TensorView codes = of.codes.view();
        for (std::int64_t r = 0; r < codes.rows(); ++r)
          for (std::int64_t c = 0; c < codes.columns(); ++c) {
            const double value = of.scales.view().as<float>()[r] * value_of(format, codes.row<std::uint8_t>(r)[c]);
            if (by_columns && c >= shape[0]) {
              EXPECT_EQ(value, 0);
              continue;
            }
            const double wanted = expected[static_cast<std::size_t>(by_columns ? c * shape[1] + r : r * shape[1] + c)];
            EXPECT_TRUE(value == wanted || (std::isnan(value) && std::isnan(wanted))) << value << " " << wanted;
          }
      }
}

TEST(Fp8Gemm, IsTheGemmOfRoundedOperands) {
  const Stream stream;
  constexpr std::int64_t m = 33, n = 48, k = 64;
  for (const Fp8Format format : {Fp8Format::e4m3, Fp8Format::e5m2})
    for (const DType dtype : {DType::bf16, DType::f32})
      for (const double beta : {0., 1.}) {
        const Tensor a = random_tensor(stream, DType::bf16, {m, k}, 1, -5, 5),
                     b = random_tensor(stream, DType::bf16, {k, n}, 2, -1, 1),
                     c = random_tensor(stream, dtype, {m, n}, 3, -1, 1), expected(stream, dtype, {m, n});
        assign(expected, values_of(c));
        const Quantised of_a(stream, a, format, false), of_b(stream, b, Fp8Format::e4m3, true);
        fp8_gemm(stream, {.a = of_a.matrix(), .b = of_b.matrix(), .beta = beta, .c = c});
        round_to_fp8(stream, {.x = a, .format = format, .y = a});
        round_to_fp8(stream, {.x = b, .by_columns = true, .y = b});
        gemm(stream, {.a = a, .b = b, .beta = beta, .c = expected});
        const std::vector<double> found = values_of(c), wanted = values_of(expected);
        for (std::size_t i = 0; i < found.size(); ++i)
          EXPECT_NEAR(found[i], wanted[i], 1e-5 * (dtype == DType::bf16 ? 1e3 : 30)) << i;
      }
}

/// On a GPU the same bits as on the CPU, and products within the error of the tensor cores' sums.
class Fp8OnAGpu : public GpuTest {
 protected:
  void expect_products_as_on_the_cpu(bool scale_after) const;
};
INSTANTIATE_TEST_SUITE_P(Fp8, Fp8OnAGpu, testing::Values(DType::bf16), dtype_name<testing::TestParamInfo<DType>>);

TEST_P(Fp8OnAGpu, QuantisesToTheSameBits) {
  std::uint64_t seed = 1;
  for (const Shape& shape : {Shape{1, 8}, Shape{7, 5}, Shape{64, 24}, Shape{129, 256}, Shape{1000, 72}, Shape{33, 4096},
                             Shape{300, 11008}, Shape{3, 22016}, Shape{2, 40000}, Shape{2, 9001}, Shape{0, 16}})
    for (const Fp8Format format : {Fp8Format::e4m3, Fp8Format::e5m2})
      for (const bool by_columns : {false, true})
        for (const std::int64_t beside : {0, 1, 8}) {
          const std::int64_t padding = beside * 13, columns = shape[1] + 2 * beside;
          const Tensor wide = random_tensor(cpu(), DType::bf16, {shape[0], columns}, ++seed, -300, 300);
          std::vector<double> values = values_of(wide);
          for (std::size_t i = 0; i < values.size(); ++i) values[i] *= std::ldexp(1, static_cast<int>(i % 11) * 4 - 20);
          if (values.size() > 40)
            values[7] = nan, values[11] = -nan, values[20] = infinity, values[31] = -infinity, values[33] = -0.;
          assign(wide, values);
          const Tensor on_gpu = to_gpu(wide);
          const Quantised expected(cpu(), wide.view().slice_columns(beside, shape[1]), format, by_columns, padding),
              found(gpu(), on_gpu.view().slice_columns(beside, shape[1]), format, by_columns, padding);
          EXPECT_TRUE(same_bits(to_cpu(found.codes), expected.codes)) << shape.to_string() << by_columns << beside;
          EXPECT_TRUE(same_bits(to_cpu(found.scales), expected.scales)) << shape.to_string() << by_columns << beside;
        }
}

/// An element's error is at most that of its sums on tensor cores, whose terms are cut off below 2^-13 of the largest
/// one, plus one rounding of the result.
void Fp8OnAGpu::expect_products_as_on_the_cpu(bool scale_after) const {
  std::uint64_t seed = 1;
  for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{1, 16, 16},
                                {3, 32, 64},
                                {129, 160, 4096},
                                {257, 4096, 128},
                                {1000, 256, 1024},
                                {64, 64, 11008},
                                {4200, 4096, 16}})
    for (const Fp8Format format : {Fp8Format::e4m3, Fp8Format::e5m2})
      for (const DType dtype : {DType::bf16, DType::f32})
        for (const double beta : {0., 1.}) {
          if (m > 4096 && (!scale_after || dtype == DType::f32 || beta == 0)) continue;  // two tiles of rows
          const Tensor a = random_tensor(cpu(), DType::bf16, {m, k}, ++seed, -5, 5),
                       b = random_tensor(cpu(), DType::bf16, {n, k}, ++seed, -1, 1),
                       c = random_tensor(cpu(), dtype, {m, n}, ++seed, -1, 1), magnitude(cpu(), DType::f32, {m, n});
          const Tensor a_gpu = to_gpu(a), b_gpu = to_gpu(b), c_gpu = to_gpu(c), again_gpu = to_gpu(c);
          const Quantised of_a(cpu(), a, format, false), of_b(cpu(), b, Fp8Format::e4m3, false),
              of_a_gpu(gpu(), a_gpu, format, false), of_b_gpu(gpu(), b_gpu, Fp8Format::e4m3, false);
          fp8_gemm(cpu(), {.a = of_a.matrix(), .b = of_b.matrix(), .beta = beta, .c = c});
          for (const Tensor* to : {&c_gpu, &again_gpu})
            fp8_gemm(
                gpu(),
                {.a = of_a_gpu.matrix(), .b = of_b_gpu.matrix(), .beta = beta, .c = *to, .scale_after = scale_after});
          for (const Tensor* x : {&a, &b}) {
            std::vector<double> values = values_of(*x);
            for (double& value : values) value = std::abs(value);
            assign(*x, values);
          }
          gemm(cpu(), {.a = a, .b = b, .transpose_b = true, .c = magnitude});
          const Tensor result = to_cpu(c_gpu);
          EXPECT_TRUE(same_bits(result, to_cpu(again_gpu)));
          const std::vector<double> found = values_of(result), wanted = values_of(c), sums = values_of(magnitude);
          double most = 0;
          for (std::size_t i = 0; i < found.size(); ++i)
            most = std::max(most,
                            (std::abs(found[i] - wanted[i]) - 4 * rounding_of(dtype) * std::abs(wanted[i])) / sums[i]);
          RecordProperty("error", fmt::format("{:.2e}", most));
          EXPECT_LE(most, 0x1p-11) << m << " " << n << " " << k << " " << beta;
        }
}

TEST_P(Fp8OnAGpu, MultipliesAsTheCpuUpToTheTensorCoresSums) {
  const Tensor probe(gpu(), DType::bf16, {16, 16});
  if (!has_fp8_gemm(Device::cuda, 16, probe)) GTEST_SKIP() << "this GPU has no product of 8-bit floats";
  expect_products_as_on_the_cpu(false);
}

TEST_P(Fp8OnAGpu, MultipliesAlikeWhereRowsAreScaledAfterTheProduct) {
  const Tensor probe(gpu(), DType::bf16, {16, 16});
  if (!has_fp8_gemm(Device::cuda, 16, probe)) GTEST_SKIP() << "this GPU has no product of 8-bit floats";
  expect_products_as_on_the_cpu(true);
}

TEST_P(Fp8OnAGpu, NotANumberStaysInItsRow) {
  const Tensor probe(gpu(), DType::bf16, {16, 16});
  if (!has_fp8_gemm(Device::cuda, 16, probe)) GTEST_SKIP() << "this GPU has no product of 8-bit floats";
  const Tensor a = random_tensor(cpu(), DType::bf16, {40, 64}, 1), b = random_tensor(cpu(), DType::bf16, {32, 64}, 2);
  const auto product = [&](TensorView x) {
    const Tensor x_gpu = to_gpu(x), b_gpu = to_gpu(b), c(gpu(), DType::bf16, {40, 32});
    const Quantised of_x(gpu(), x_gpu, Fp8Format::e5m2, false), of_b(gpu(), b_gpu, Fp8Format::e4m3, false);
    fp8_gemm(gpu(), {.a = of_x.matrix(), .b = of_b.matrix(), .c = c});
    return values_of(to_cpu(c));
  };
  const std::vector<double> clean = product(a);
  std::vector<double> values = values_of(a);
  values[3 * 64 + 5] = nan, values[17 * 64] = infinity;
  assign(a, values);
  const std::vector<double> with = product(a);
  for (std::size_t i = 0; i < with.size(); ++i)
    if (i / 32 == 3 || i / 32 == 17)
      EXPECT_FALSE(std::isfinite(with[i])) << i;
    else
      EXPECT_EQ(with[i], clean[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(Types, RoundToFp8OfEveryType, testing::Values(DType::f64, DType::f32, DType::bf16),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

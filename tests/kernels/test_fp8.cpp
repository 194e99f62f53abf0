#include "kernels/fp8.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

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
  EXPECT_EQ(fp8_scale(0, format), 1);
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

INSTANTIATE_TEST_SUITE_P(Types, RoundToFp8OfEveryType, testing::Values(DType::f64, DType::f32, DType::bf16),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

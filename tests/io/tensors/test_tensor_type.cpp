#include "io/tensors/tensor_type.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "io/tensors/float16.hpp"
#include "kernels/core/dtype.hpp"

namespace causeway {
namespace {

template <class From, class To>
To converted_by(TensorType from, From value, TensorType to) {
  To result{};
  convert_elements(from, std::as_bytes(std::span(&value, 1)), to, std::as_writable_bytes(std::span(&result, 1)));
  return result;
}

f16 half_of(std::uint16_t bits) {
  f16 half;
  half.bits = bits;
  return half;
}

TEST(TensorType, EveryFloat16IsTheSameAfterFloat32AndFloat64) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16 half = half_of(static_cast<std::uint16_t>(bits));
    const auto wide = static_cast<float>(half);
    EXPECT_EQ(std::isnan(wide), (bits & 0x7fffu) > 0x7c00u);
    if (std::isnan(wide)) continue;
    EXPECT_EQ(f16(wide).bits, bits);
    EXPECT_EQ((converted_by<double, f16>(TensorType::f64, static_cast<double>(wide), TensorType::f16)).bits, bits);
  }
}

/// The two neighbours of a value among the float16 decide: the nearer one, or the even one.
TEST(TensorType, Float16IsRoundedToNearestEven) {
  for (std::uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = static_cast<float>(half_of(bits)), high = static_cast<float>(half_of(bits + 1));
    const double middle = (low + high) / 2, step = (high - low) * 1e-9;
    const auto rounded = [](double value) {
      return converted_by<double, f16>(TensorType::f64, value, TensorType::f16).bits;
    };
    const std::uint16_t even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(rounded(middle), even);
    ASSERT_EQ(rounded(middle - step), bits);  // through float32 alone it would be rounded twice
    ASSERT_EQ(rounded(middle + step), bits + 1);
    ASSERT_EQ(rounded(-middle - step), (bits + 1) | 0x8000);
  }
}

TEST(TensorType, ADoubleIsRoundedToBfloat16Once) {
  const double one_and_a_half_step = 1 + 0x1p-8;  // between 1 and 1 + 2^-7
  const auto rounded = [](double value) {
    return static_cast<float>(converted_by<double, bf16>(TensorType::f64, value, TensorType::bf16));
  };
  EXPECT_EQ(rounded(one_and_a_half_step), 1);
  EXPECT_EQ(rounded(one_and_a_half_step + 0x1p-40), 1 + 0x1p-7f);
  EXPECT_EQ(rounded(one_and_a_half_step - 0x1p-40), 1);
  EXPECT_EQ(rounded(-one_and_a_half_step - 0x1p-40), -1 - 0x1p-7f);
}

TEST(TensorType, WhatOverflowsIsInfiniteAndFound) {
  EXPECT_EQ((converted_by<float, f16>(TensorType::f32, 65519.f, TensorType::f16)).bits, 0x7bff);
  EXPECT_EQ((converted_by<float, f16>(TensorType::f32, 65520.f, TensorType::f16)).bits, 0x7c00);
  const std::vector<f16> values = {half_of(0x3c00), half_of(0x7c00)};
  EXPECT_EQ(first_non_finite(TensorType::f16, std::as_bytes(std::span(values))), 1);
  const std::vector<float> finite = {1, -0.f, 1e-40f};
  EXPECT_EQ(first_non_finite(TensorType::f32, std::as_bytes(std::span(finite))), 3);
}

TEST(TensorType, ATypeHoldsAllOfTheNarrowerOnes) {
  EXPECT_TRUE(holds_all_of(TensorType::f32, TensorType::f16));
  EXPECT_TRUE(holds_all_of(TensorType::f64, TensorType::bf16));
  EXPECT_FALSE(holds_all_of(TensorType::f16, TensorType::bf16));
  EXPECT_FALSE(holds_all_of(TensorType::f32, TensorType::f64));
}

}  // namespace
}  // namespace causeway

#include "kernels/core/dtype.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace causeway::test {
namespace {

TEST(Bf16, EveryBitPatternIsUnchangedByConversionToFloatAndBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    bf16 value;
    value.bits = static_cast<std::uint16_t>(bits);
    const float wide = value;
    if (std::isnan(wide))
      EXPECT_TRUE(std::isnan(static_cast<float>(bf16(wide))));
    else
      EXPECT_EQ(bf16(wide).bits, value.bits) << bits;
  }
}

TEST(Bf16, RoundsToNearestAndTiesToEven) {
  struct Rounding {
    std::uint32_t from;
    std::uint16_t to;
  };
  for (const auto& [from, to] : {Rounding{0x3f800000, 0x3f80},  // 1 exactly
                                 {0x3f807fff, 0x3f80},          // just below the tie
                                 {0x3f808000, 0x3f80},          // a tie: the even neighbour is below
                                 {0x3f808001, 0x3f81},          // just above it
                                 {0x3f818000, 0x3f82},          // a tie: the even neighbour is above
                                 {0xbf818000, 0xbf82},          // the same for a negative number
                                 {0x3fffffff, 0x4000},          // carries into the exponent
                                 {0x7f7fffff, 0x7f80},
                                 {0xff7fffff, 0xff80},  // the largest float rounds to infinity
                                 {0x7f7f7fff, 0x7f7f},
                                 {0x00000001, 0x0000},
                                 {0x00008001, 0x0001},
                                 {0x80000000, 0x8000},
                                 {0x7f800000, 0x7f80},
                                 {0xff800000, 0xff80}})
    EXPECT_EQ(bf16(std::bit_cast<float>(from)).bits, to) << std::hex << from;
}

TEST(Bf16, EveryNanStaysANan) {
  for (const std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0x7fc00000u, 0xff800001u, 0xffffffffu, 0x7f80ffffu})
    EXPECT_TRUE(std::isnan(static_cast<float>(bf16(std::bit_cast<float>(bits))))) << std::hex << bits;
}

TEST(DType, ParsesTheNamesOfActivationTypesAndRefusesOthers) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) EXPECT_EQ(parse_dtype(name_of(dtype)), dtype);
  for (const char* name : {"", "f16", "F32", "i32", "float"}) {
    try {
      parse_dtype(name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
    }
  }
}

TEST(DType, DispatchGivesTheTypeWhoseDTypeItIs) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
    dispatch(dtype, [&]<class T>() {
      EXPECT_EQ(dtype_of<T>, dtype);
      EXPECT_EQ(static_cast<std::int64_t>(sizeof(T)), size_of(dtype));
      EXPECT_EQ(dtype_of<Accumulator<T>>, accumulator_of(dtype));
    });
  }
  EXPECT_THROW(dispatch(DType::i32, []<class T>() {}), Error);
}

}  // namespace
}  // namespace causeway::test

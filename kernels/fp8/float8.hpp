#pragma once

#include <bit>
#include <cstdint>

namespace causeway {

/// An 8-bit float: a sign, `exponent_bits` and `mantissa_bits`, with subnormal numbers. Conversions round to the
/// nearest value, ties to the one with an even code. With `infinity` the largest exponent is that of infinity and NaN,
/// as in IEEE 754; without, only the largest code is NaN. Larger numbers than the format has become infinity or NaN.
/// Source: OCP 8-bit Floating Point Specification (OFP8), revision 1.0.
template <int exponent_bits, int mantissa_bits, bool infinity>
struct Float8 {
  static constexpr int bias = (1 << (exponent_bits - 1)) - 1;
  static constexpr std::uint8_t sign_bit = 0x80, nan_code = 0x7f,
                                largest_code = infinity ? ((1 << exponent_bits) - 1) * (1 << mantissa_bits) - 1 : 0x7e;
  std::uint8_t bits = 0;

  Float8() = default;
  // constexpr, because nvcc lets device code call constexpr functions (--expt-relaxed-constexpr).
  constexpr explicit Float8(double value) {
    constexpr int wide_mantissa = 52, wide_bias = 1023, dropped = wide_mantissa - mantissa_bits;
    constexpr std::uint64_t wide_infinity = 0x7ffull << wide_mantissa;
    const auto wide = std::bit_cast<std::uint64_t>(value);
    const std::uint64_t magnitude = wide & ~(1ull << 63);
    const auto sign = static_cast<std::uint8_t>(wide >> 56 & sign_bit);
    std::uint64_t code = 0;
    if (magnitude > wide_infinity) {
      code = nan_code;
    } else if (std::bit_cast<double>(magnitude) < power_of_two(1 - bias)) {
      // A subnormal number is a multiple of the smallest one. The addition rounds it to an integer.
      const double units = std::bit_cast<double>(magnitude) * power_of_two(bias - 1 + mantissa_bits);
      code = std::bit_cast<std::uint64_t>(units + 0x1p52) & 0xff;
    } else {
      const std::uint64_t odd = magnitude >> dropped & 1;
      code = ((magnitude + (1ull << (dropped - 1)) - 1 + odd) >> dropped) -
             (static_cast<std::uint64_t>(wide_bias - bias) << mantissa_bits);
      if (code > largest_code) code = infinity ? largest_code + 1 : nan_code;
    }
    bits = static_cast<std::uint8_t>(code | sign);
  }

  constexpr explicit operator double() const {
    const int code = bits & ~sign_bit, exponent = code >> mantissa_bits, mantissa = code & ((1 << mantissa_bits) - 1);
    const double sign = (bits & sign_bit) != 0 ? -1 : 1;
    if (code > largest_code) {
      const std::uint64_t quiet_nan = 0x7ff8ull << 48, wide_infinity = 0x7ff0ull << 48;
      return sign * std::bit_cast<double>(infinity && mantissa == 0 ? wide_infinity : quiet_nan);
    }
    if (exponent == 0) return sign * mantissa * power_of_two(1 - bias - mantissa_bits);
    return sign * ((1 << mantissa_bits) + mantissa) * power_of_two(exponent - bias - mantissa_bits);
  }

  static constexpr double power_of_two(int exponent) {
    return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
  }
};

/// Up to ±448, steps of 1/8 within a factor of two; no infinity.
using E4m3 = Float8<4, 3, false>;
/// Up to ±57344, steps of 1/4 within a factor of two.
using E5m2 = Float8<5, 2, true>;

enum class Fp8Format : std::uint8_t { e4m3, e5m2 };

/// The scale of numbers whose largest magnitude is `largest`, finite: the smallest power of two, but at least 2^-110,
/// with largest / scale ≤ the format's largest number, which is 1.75·2^8 or 1.75·2^15. Division by it is exact, and so
/// is the product of the quotient, rounded to 8 bits, and the scale, in bf16 as well unless it is 2^128. Numbers that
/// are all 0 have the smallest scale, so that they are never the ones with the largest scale of several groups.
constexpr double fp8_scale(double largest, Fp8Format format) {
  const auto bits = std::bit_cast<std::uint64_t>(largest);
  const int exponent = static_cast<int>(bits >> 52) - 1023;  // a subnormal number's is -1023
  const bool above = (bits & 0xfffffffffffffull) > 0xc000000000000ull;
  const int of_scale = exponent - (format == Fp8Format::e4m3 ? 8 : 15) + (above ? 1 : 0);
  return E4m3::power_of_two(of_scale < -110 ? -110 : of_scale);
}

/// value, rounded to a multiple of `unit` by a number of the format. NaN stays NaN; infinity becomes NaN in e4m3.
constexpr double rounded_to_fp8(double value, double unit, Fp8Format format) {
  const double quotient = value / unit;
  return unit * (format == Fp8Format::e4m3 ? static_cast<double>(E4m3(quotient)) : static_cast<double>(E5m2(quotient)));
}

}  // namespace causeway

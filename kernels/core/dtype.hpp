#pragma once

#include <bit>
#include <cstdint>
#include <string_view>
#include <utility>

#include "kernels/core/error.hpp"

namespace causeway {

/// bfloat16: the upper half of a float32, rounded to nearest even on conversion. Bit-compatible with CUDA's
/// __nv_bfloat16.
struct bf16 {
  std::uint16_t bits = 0;

  // constexpr, because nvcc lets device code call constexpr functions (--expt-relaxed-constexpr).
  bf16() = default;
  constexpr bf16(float value) {  // NOLINT: implicit conversions to and from float are intended
    const auto wide = std::bit_cast<std::uint32_t>(value);
    const bool nan = (wide & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? static_cast<std::uint16_t>((wide >> 16) | 0x40u)
               : static_cast<std::uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16);
  }
  constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }  // NOLINT
};

/// Element types: three for activations, the rest for tokens, labels and offsets.
enum class DType : std::uint8_t { f64, f32, bf16, i64, i32, u8 };

/// Bytes of one element.
constexpr std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

/// The name that the command line and messages use.
constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "f64";
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::i64:
      return "i64";
    case DType::i32:
      return "i32";
    case DType::u8:
      return "u8";
  }
  return "?";
}

/// The activation type of that name: "f64", "f32" or "bf16". Throws Error(usage) for other names.
inline DType parse_dtype(std::string_view name) {
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
    if (name == name_of(dtype)) return dtype;
  fail(ExitCode::usage, "dtype is '{}', expected f64, f32 or bf16", name);
}

/// The type of states, sums, exponentials and parameter gradients of an operator with activations of `dtype`: f64 for
/// f64, f32 for f32 and bf16.
constexpr DType accumulator_of(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

/// accumulator_of for C++ types: Accumulator<bf16> is float.
template <class T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

/// The DType of a C++ type; u8 for all other types.
template <class T>
constexpr DType dtype_of = DType::u8;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<bf16> = DType::bf16;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;

/// Calls `body.template operator()<T>()` with the C++ type T of a floating-point dtype. This is the only place where a
/// run-time type becomes a template parameter. Throws Error(internal) for integer types.
template <class Body>
decltype(auto) dispatch(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f64:
      return std::forward<Body>(body).template operator()<double>();
    case DType::f32:
      return std::forward<Body>(body).template operator()<float>();
    case DType::bf16:
      return std::forward<Body>(body).template operator()<bf16>();
    default:
      fail(ExitCode::internal, "dtype {} is not a floating-point type, expected f64, f32 or bf16", name_of(dtype));
  }
}

}  // namespace causeway

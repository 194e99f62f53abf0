#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace causeway {

/// The element types of tensors in files of other programs. Weights have one of the first four.
enum class TensorType : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean };

/// Bytes of one element.
constexpr std::int64_t size_of(TensorType type) {
  constexpr std::int64_t bytes[] = {8, 4, 2, 2, 8, 4, 2, 1, 8, 4, 2, 1, 1};
  return bytes[static_cast<std::size_t>(type)];
}

/// The name that the command line and messages use.
constexpr std::string_view name_of(TensorType type) {
  constexpr std::string_view names[] = {"f64", "f32", "f16", "bf16", "i64", "i32", "i16",
                                        "i8",  "u64", "u32", "u16",  "u8",  "bool"};
  return names[static_cast<std::size_t>(type)];
}

constexpr bool is_floating(TensorType type) { return type <= TensorType::bf16; }

/// Whether every value of type `from` is a value of type `to`; both are floating.
constexpr bool holds_all_of(TensorType to, TensorType from) {
  return to == from || to == TensorType::f64 || (to == TensorType::f32 && from != TensorType::f64);
}

/// The floating type of that name. Throws Error(usage) for other names; `what` is the option or attribute.
TensorType parse_tensor_type(std::string_view name, std::string_view what);

/// Converts floating elements, rounded to nearest even. `in` and `out` have the same number of elements.
void convert_elements(TensorType from, std::span<const std::byte> in, TensorType to, std::span<std::byte> out);

/// The index of the first floating element that is NaN or infinite; the number of elements if all are finite.
std::int64_t first_non_finite(TensorType type, std::span<const std::byte> elements);

}  // namespace causeway

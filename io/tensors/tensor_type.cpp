#include "io/tensors/tensor_type.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "io/tensors/float16.hpp"
#include "kernels/core/dtype.hpp"

namespace causeway {
namespace {

/// Calls `body.operator()<T>()` with the C++ type of a floating type.
template <class Body>
decltype(auto) dispatch_floating(TensorType type, Body&& body) {
  switch (type) {
    case TensorType::f64:
      return body.template operator()<double>();
    case TensorType::f32:
      return body.template operator()<float>();
    case TensorType::f16:
      return body.template operator()<f16>();
    case TensorType::bf16:
      return body.template operator()<bf16>();
    default:
      fail(ExitCode::internal, "{} is not a floating type", name_of(type));
  }
}

template <class T>
T element(const std::byte* bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes + index * sizeof(T), sizeof(T));
  return value;
}

template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// A double as float, rounded to odd: rounding it again to f16 or bf16 gives the same as rounding the double once.
float rounded_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || !std::isfinite(nearest)) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (bits & 1u) return nearest;
  // The neighbour on the other side of the value, whose last bit is odd.
  const bool up = (static_cast<double>(nearest) < value) == (value > 0);
  bits = up ? bits + 1 : bits - 1;
  return std::bit_cast<float>(bits);
}

template <class To, class From>
To converted(From value) {
  const Wide<From> wide = static_cast<Wide<From>>(value);
  if constexpr (std::is_same_v<Wide<From>, double> && sizeof(To) == 2)
    return To(rounded_to_odd(wide));
  else
    return To(static_cast<Wide<To>>(wide));
}

}  // namespace

TensorType parse_tensor_type(std::string_view name, std::string_view what) {
  for (const TensorType type : {TensorType::f64, TensorType::f32, TensorType::f16, TensorType::bf16})
    if (name == name_of(type)) return type;
  fail(ExitCode::usage, "{} is '{}', expected f64, f32, f16 or bf16", what, name);
}

void convert_elements(TensorType from, std::span<const std::byte> in, TensorType to, std::span<std::byte> out) {
  const std::size_t count = in.size() / static_cast<std::size_t>(size_of(from));
  ensure(out.size() == count * static_cast<std::size_t>(size_of(to)), "{} elements do not fit into {} bytes", count,
         out.size());
  if (from == to) {
    std::ranges::copy(in, out.begin());
    return;
  }
  dispatch_floating(from, [&]<class From>() {
    dispatch_floating(to, [&]<class To>() {
      for (std::size_t i = 0; i < count; ++i) {
        const To value = converted<To>(element<From>(in.data(), i));
        std::memcpy(out.data() + i * sizeof(To), &value, sizeof(To));
      }
    });
  });
}

std::int64_t first_non_finite(TensorType type, std::span<const std::byte> elements) {
  return dispatch_floating(type, [&]<class T>() {
    const std::size_t count = elements.size() / sizeof(T);
    for (std::size_t i = 0; i < count; ++i)
      if (!std::isfinite(static_cast<Wide<T>>(element<T>(elements.data(), i)))) return static_cast<std::int64_t>(i);
    return static_cast<std::int64_t>(count);
  });
}

}  // namespace causeway

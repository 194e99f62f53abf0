#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "io/tensors/tensor_type.hpp"

namespace causeway {

/// The values of a tensor in memory, row-major.
struct Elements {
  TensorType type = TensorType::f32;
  std::vector<std::byte> bytes;

  std::int64_t count() const { return static_cast<std::int64_t>(bytes.size()) / size_of(type); }
};

Elements zeros(std::int64_t count, TensorType type);
/// The values in f64.
std::vector<double> doubles_of(Elements elements);

/// The same values in another type, rounded to nearest even where it does not hold them.
Elements converted(Elements elements, TensorType type);
/// The narrowest floating type that holds all values of both.
TensorType common_type(TensorType a, TensorType b);
/// The same of one or more types.
TensorType common_type(std::span<const TensorType> types);

/// The elements of all tensors, one after the other, in the common type of them.
Elements concatenated(std::vector<Elements> parts);
/// The inverse, for parts of `counts` elements.
std::vector<Elements> divided(const Elements& whole, const std::vector<std::int64_t>& counts);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "src/convert/elements.hpp"

namespace causeway {

/// How a parameter is made of the tensors of a format, and the inverse, which gives the same bytes back.
struct Transform {
  /// The type of the parameter's elements, if it is not the common type of the tensors'.
  std::optional<TensorType> result_type = {};
  /// The tensors' elements, in the order of the mapping's row, to the parameter's.
  std::function<Elements(std::vector<Elements> tensors)> to_parameter = {};
  /// `counts`: the elements of each tensor. Throws Error(usage) for values that the format cannot express, starting
  /// with "is …". Null: there is none, and the format is only read.
  std::function<std::vector<Elements>(Elements parameter, const std::vector<std::int64_t>& counts)> to_tensors = {};
};

/// The tensors' elements one after the other: a copy, a reshape, rows that are stacked.
Transform stacked();
/// Reorders rows of a tensor (outer, inner, rest), all with the same `rest`, to (inner, outer, rest). With inner = 3
/// and outer = D it takes rows q, k, v, q, k, v … to all q, all k, all v; with `rest` of a head's rows it does so by
/// head.
Transform outer_axes_swapped(std::int64_t outer, std::int64_t inner);
/// A parameter of `count` elements that the format does not have: every element is `value`.
Transform constant(std::int64_t count, double value);

}  // namespace causeway

#pragma once

#include <string_view>
#include <type_traits>

#include "kernels/core/error.hpp"

namespace causeway {

/// Throws Error(usage) that names the option where its value is not from `low` to `high`, or is NaN.
template <class T>
void require_within(std::string_view option, T value, std::type_identity_t<T> low, std::type_identity_t<T> high) {
  require(value >= low && value <= high, "--{} is {}, expected {} to {}", option, value, low, high);
}

}  // namespace causeway

#pragma once

#include <cstdint>

#include "kernels/random.hpp"

namespace causeway::initial {

/// First values of parameters, as ParameterSpec asks for them.

/// U(-bound, bound), PyTorch's start of a linear map or convolution with bound = 1/√fan_in.
inline auto uniform(double bound) {
  return [bound](const RandomStream& random, std::int64_t i) {
    return bound * (2 * random.uniform(static_cast<std::uint64_t>(i)) - 1);
  };
}

/// N(0, deviation²).
inline auto normal(double deviation) {
  return [deviation](const RandomStream& random, std::int64_t i) {
    return deviation * random.normal(static_cast<std::uint64_t>(i));
  };
}

inline auto constant(double value) {
  return [value](const RandomStream&, std::int64_t) { return value; };
}

}  // namespace causeway::initial

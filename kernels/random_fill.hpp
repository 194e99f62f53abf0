#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/random.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// y[i] = scale·(2·random.uniform(i) - 1), or scale·random.normal(i): first values of weights, in float64 and then
/// rounded to y's type. y dense. Uniform numbers are the same bits on every device; of normal ones about one in 2^28
/// (f32) falls on the other side of a rounding edge, where the device's log and cos differ from the host's in their
/// last bit.
struct RandomFill {
  enum class Distribution : std::uint8_t { uniform, normal };
  Distribution distribution = Distribution::uniform;
  double scale = 1;
  RandomStream random;
  TensorView y;
};
extern const Kernel<RandomFill> random_fill;

}  // namespace causeway

#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/random.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// Initial values of weights: y[i] = scale·(2·random.uniform(i) - 1), or scale·random.normal(i), computed in float64
/// and rounded to y's dtype. Uniform values have the same bits on every device. About one in 2^28 normal values (f32)
/// differs in its last bit, because log and cos of a GPU and of the host differ in their last bits. Throws
/// Error(internal) if y has gaps between its rows.
struct RandomFill {
  enum class Distribution : std::uint8_t { uniform, normal };
  Distribution distribution = Distribution::uniform;
  double scale = 1;
  RandomStream random;
  TensorView y;  ///< dense, any shape and floating-point dtype
};
extern const Kernel<RandomFill> random_fill;

}  // namespace causeway

#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// A measurement probe: y = f(f(… f(x) …)), f(v) = 2^(-v) applied `times` times, in the accumulator type. It reads and
/// writes memory only once, so that for many `times` its speed is the device's rate of exponentials. `causeway bench`
/// compares the selective scan with that rate. Throws Error(internal) if x and y differ in shape or dtype.
struct RepeatedExponential {
  TensorView x;
  std::int64_t times = 1;
  TensorView y;  ///< x's shape and dtype
};
extern const Kernel<RepeatedExponential> repeated_exponential;

}  // namespace causeway

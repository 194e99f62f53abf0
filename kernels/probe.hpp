#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// Nothing but exponentials: y = f(f(… f(x) …)), `times` times f(v) = 2^(-v), in the accumulator type. Memory is
/// touched once each way whatever `times` is, so that what it reaches is the rate of exponentials: the ceiling that
/// `causeway bench` holds a scan to.
struct RepeatedExponential {
  TensorView x;
  std::int64_t times = 1;
  TensorView y;  ///< like x
};
extern const Kernel<RepeatedExponential> repeated_exponential;

}  // namespace causeway

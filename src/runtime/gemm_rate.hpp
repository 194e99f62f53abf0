#pragma once

#include "src/runtime/stopwatch.hpp"

namespace causeway {

/// Floating-point operations a second that one large square matrix product in `dtype` reaches. The fastest of three
/// products is taken, in which no operand, the second one or the first one is transposed: libraries are not equally
/// fast at them.
double gemm_rate(const Stopwatch& stopwatch, DType dtype);

}  // namespace causeway

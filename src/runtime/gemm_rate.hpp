#pragma once

#include "src/runtime/stopwatch.hpp"

namespace causeway {

/// Operations a second that one large square product in `dtype` reaches; the fastest of three, in which neither, the
/// second or the first operand is transposed: libraries are not equally fast at all three.
double gemm_rate(const Stopwatch& stopwatch, DType dtype);

}  // namespace causeway

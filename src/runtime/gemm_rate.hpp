#pragma once

#include "src/runtime/stopwatch.hpp"

namespace causeway {

/// Floating-point operations a second that one large square matrix product in `dtype` reaches. It is the fastest of
/// three products: with no operand transposed, the second one, or the first one. Libraries differ in which of these is
/// fastest.
double gemm_rate(const Stopwatch& stopwatch, DType dtype);

}  // namespace causeway

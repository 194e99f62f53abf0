#pragma once

#include "src/runtime/stopwatch.hpp"

namespace causeway {

struct GemmRate {
  double flops_per_s = 0;
  bool repeats = false;  ///< false: it was not the same again, as when other programs compute on these cores
};

/// Floating-point operations a second that one large square matrix product in `dtype` reaches. It is the fastest of
/// three products: with no operand transposed, the second one, or the first one. Libraries differ in which of these is
/// fastest. Each is measured until it repeats, for at most about a second.
GemmRate gemm_rate(const Stopwatch& stopwatch, DType dtype);

}  // namespace causeway

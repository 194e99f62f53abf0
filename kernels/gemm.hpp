#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// c = op(a)·op(b) + beta·c; op transposes if asked. op(a) is [m, k], op(b) is [k, n], c is [m, n]; row strides are
/// free. a and b have one dtype; c has that dtype or its accumulator type. Sums are in the accumulator type. With beta
/// = 0 the old c is not read. OpenBLAS on the CPU, cuBLASLt on a GPU. Throws Error(internal) if shapes or dtypes do not
/// fit or, on the CPU, if an extent exceeds OpenBLAS's integer.
struct Gemm {
  TensorView a, b;
  bool transpose_a = false, transpose_b = false;
  double beta = 0;
  TensorView c;
};
extern const Kernel<Gemm> gemm;

}  // namespace causeway

#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// c = op(a)·op(b) + beta·c, op transposing where asked: op(a) [m, k], op(b) [k, n], c [m, n]. Sums in the accumulator
/// type. a and b of one dtype, c of that or of its accumulator type. OpenBLAS on the CPU, cuBLASLt on the GPU.
struct Gemm {
  TensorView a, b;
  bool transpose_a = false, transpose_b = false;
  double beta = 0;
  TensorView c;
};
extern const Kernel<Gemm> gemm;

}  // namespace causeway

#pragma once

#include "kernels/core/float8.hpp"
#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// y = s·q with q = x/s rounded to an 8-bit float: the operand of a product in FP8, as the number that it stands for.
/// s is fp8_scale of the largest finite magnitude in x's row, or in its column with `by_columns`. y has x's dtype and
/// holds s·q exactly (2^128 is infinity), so that a product in FP8 is defined as the gemm of two such tensors. NaN and
/// infinity change no other element. x and y are [rows, columns]; row strides are free; y may be x's memory.
struct RoundToFp8 {
  TensorView x;
  Fp8Format format = Fp8Format::e4m3;
  bool by_columns = false;
  TensorView y;
};
extern const Kernel<RoundToFp8> round_to_fp8;

}  // namespace causeway

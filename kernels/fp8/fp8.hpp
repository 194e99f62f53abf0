#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/fp8/float8.hpp"

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

/// The same operand as q and s, which fp8_gemm reads. By rows: codes [rows, columns], scales [rows]. By columns: codes
/// of xᵀ, [columns, at least rows], the rest of each row zeros, and scales [columns]. x is bf16 with free row strides,
/// codes are u8, scales f32; both are dense.
struct QuantiseToFp8 {
  TensorView x;
  Fp8Format format = Fp8Format::e4m3;
  bool by_columns = false;
  TensorView codes, scales;
};
extern const Kernel<QuantiseToFp8> quantise_to_fp8;

/// A matrix in 8-bit floats: element (r, i) is scales[r]·codes[r, i].
struct Fp8Matrix {
  TensorView codes, scales;
  Fp8Format format = Fp8Format::e4m3;
};

/// An operand of xᵀ·y, a sum over rows r, whose terms are scale_x[r]·scale_y[r] times products of codes. Transposed
/// codes have one scale for all rows, so one operand takes both factors: the one in E5M2, which has the range.
/// E5M2: the numbers others[r]·x[r, i] (1·x[r, i] without `others`) at [i, r], with the largest scale[r]·others[r] as
/// the scale of them all. Exact for numbers above 2^-30 of the largest possible one; those below are rounded to
/// multiples of 2^-32 of it.
/// E4M3: the same codes with scales of 1: x's scales are the `others` of the other operand.
/// Codes are [columns, at least rows], the rest of each row zeros.
struct TransposeFp8 {
  Fp8Matrix x;
  TensorView others;  ///< [rows], f32, powers of two; or absent
  TensorView codes, scales;
};
extern const Kernel<TransposeFp8> transpose_fp8;

/// c = a·bᵀ + beta·c with a [m, k], b [n, k], c [m, n] in bf16 or f32. Sums are in f32, on a GPU of the tensor cores'
/// kind: kernels/cuda/README.md. With beta = 0 the old c is not read. On a GPU only where has_fp8_gemm says so.
struct Fp8Gemm {
  Fp8Matrix a, b;
  double beta = 0;
  TensorView c;
  bool scale_after = false;  ///< on a GPU: scale the product of the codes in a pass of its own, as where cuBLASLt does
                             ///< not scale rows (all but compute capability 9.0)
};
extern const Kernel<Fp8Gemm> fp8_gemm;

/// Whether `device` computes such a product with inner extent k, whose operands come from bf16, on 8-bit floats
/// themselves. Otherwise it is to be computed as the gemm of tensors that round_to_fp8 wrote.
bool has_fp8_gemm(Device device, std::int64_t k, TensorView c);

}  // namespace causeway

#pragma once

#include <utility>

#include "kernels/bias.hpp"
#include "kernels/gemm.hpp"
#include "src/model/dense/dense_specs.hpp"
#include "src/model/dense/rounded_operand.hpp"
#include "src/model/dense/token_rows.hpp"
#include "src/model/sublayer.hpp"

namespace causeway {

/// Whether the device computes a product of a weight with inner extent k on 8-bit floats, into y.
inline bool is_native_fp8(const Stream& stream, const Parameter& weight, std::int64_t k, TensorView y) {
  return weight.fp8 && weight.weight.dtype == DType::bf16 && has_fp8_gemm(stream.device(), k, y);
}

/// The codes of rows, if they have some; otherwise they are made, and `own` holds them.
inline Fp8Matrix codes_of(const Stream& stream, const RowsView& x, Fp8Format format, Fp8Copy& own) {
  if (x.codes.codes.present()) return x.codes;
  own = Fp8Copy::by_rows(stream, x.values, format);
  return own;
}
/// The values of rows, for a product in the compute type. That is also where a rank without tokens goes: no product on
/// 8-bit floats has an extent of 0 (has_fp8_gemm).
inline TensorView values_of_rows(const RowsView& x) {
  if (x.rows() == 0) return view_of(nullptr, x.dtype(), x.shape());
  ensure(x.values.present(), "rows {} exist as 8-bit floats only, but are to be multiplied in another type",
         x.shape().to_string());
  return x.values;
}

/// y = x·Wᵀ + beta·y.
inline void multiply_by(const Stream& stream, const Parameter& weight, const RowsView& x, TensorView y,
                        double beta = 0) {
  if (is_native_fp8(stream, weight, x.shape()[1], y)) {
    Fp8Copy own;
    const Fp8Matrix codes = codes_of(stream, x, Fp8Format::e4m3, own);
    return fp8_gemm(stream,
                    {.a = codes, .b = Fp8Copy::by_rows(stream, weight.weight, Fp8Format::e4m3), .beta = beta, .c = y});
  }
  gemm(stream, {.a = activation_operand(stream, weight, values_of_rows(x)),
                .b = weight_operand(stream, weight, false),
                .transpose_b = true,
                .beta = beta,
                .c = y});
}

/// Whether the product that is a weight's gradient is native.
inline bool adds_in_fp8(const Stream& stream, const Parameter& weight, std::int64_t tokens) {
  return is_native_fp8(stream, weight, round_up(tokens, 16), weight.gradient);
}
/// Adds d_yᵀ·x to the gradient of a parameter.
inline void add_product(const Stream& stream, const Parameter& weight, const RowsView& d_y, const RowsView& x) {
  const double beta = std::exchange(weight.gradient_unwritten, false) ? 0 : 1;
  if (adds_in_fp8(stream, weight, x.rows())) {
    Fp8Copy own_x, own_d_y;
    const Fp8Matrix of_x = codes_of(stream, x, Fp8Format::e4m3, own_x),
                    of_d_y = codes_of(stream, d_y, Fp8Format::e5m2, own_d_y);
    return fp8_gemm(stream, {.a = Fp8Copy::transpose_of(stream, of_d_y, of_x.scales),
                             .b = Fp8Copy::transpose_of(stream, of_x),
                             .beta = beta,
                             .c = weight.gradient});
  }
  gemm(stream, {.a = gradient_operand(stream, weight, values_of_rows(d_y)),
                .b = activation_operand(stream, weight, values_of_rows(x)),
                .transpose_a = true,
                .beta = beta,
                .c = weight.gradient});
}

/// d_x = d_y·W.
inline void multiply_by_adjoint(const Stream& stream, const Parameter& weight, const RowsView& d_y, TensorView d_x) {
  if (is_native_fp8(stream, weight, d_y.shape()[1], d_x)) {
    Fp8Copy own;
    const Fp8Matrix codes = codes_of(stream, d_y, Fp8Format::e5m2, own);
    return fp8_gemm(stream, {.a = codes, .b = Fp8Copy::by_columns(stream, weight.weight, Fp8Format::e4m3), .c = d_x});
  }
  gemm(stream, {.a = gradient_operand(stream, weight, values_of_rows(d_y)),
                .b = weight_operand(stream, weight, true),
                .c = d_x});
}

/// The adjoint of multiply_by: d_x = d_y·W, and adds d_yᵀ·x to the weight's gradient.
inline void multiply_back(const Stream& stream, const Parameter& weight, RowsView d_y, const RowsView& x,
                          TensorView d_x) {
  Fp8Copy own;  // of d_y, for both products
  if (is_native_fp8(stream, weight, d_y.shape()[1], d_x) || adds_in_fp8(stream, weight, x.rows()))
    d_y.codes = codes_of(stream, d_y, Fp8Format::e5m2, own);
  multiply_by_adjoint(stream, weight, d_y, d_x);
  add_product(stream, weight, d_y, x);
}

/// y = x·Wᵀ + bias (if there is one), in x's dtype: [T, inputs] → [T, outputs].
inline Tensor dense(const Stream& stream, const Parameter& weight, const RowsView& x, const Parameter* bias = nullptr) {
  Tensor y(stream, x.dtype(), {x.rows(), weight.spec.shape[0]});
  if (bias != nullptr) bias_forward(stream, {.bias = bias->weight, .y = y});
  multiply_by(stream, weight, x, y, bias != nullptr ? 1.0 : 0.0);
  return y;
}

/// Returns d_x = d_y·W, and adds d_yᵀ·x to W's gradient and the sum of d_y's rows to the bias's.
inline Tensor dense_backward(const Stream& stream, const Parameter& weight, const RowsView& x, const RowsView& d_y,
                             const Parameter* bias = nullptr) {
  if (bias != nullptr) bias_backward(stream, {.d_y = values_of_rows(d_y), .d_bias = bias->gradient});
  Tensor d_x(stream, x.dtype(), x.shape());
  multiply_back(stream, weight, d_y, x, d_x);
  return d_x;
}

/// dense_backward of a sublayer's first product, whose input exists for a tile at a time.
inline void dense_backward(const Stream& stream, const Parameter& weight, const TiledInput& x, TensorView d_y) {
  x.for_each_tile([&](const RowsView& tile, std::int64_t first) {
    return dense_backward(stream, weight, tile, d_y.slice_rows(first, tile.rows()));
  });
}

}  // namespace causeway

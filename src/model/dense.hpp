#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "kernels/bias.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/fp8/fp8.hpp"
#include "kernels/gemm.hpp"
#include "src/model/parameters/initial_values.hpp"
#include "src/model/parameters/parameter_set.hpp"
#include "src/model/sublayer.hpp"

namespace causeway {

/// A dense layer's weight [outputs, inputs], initially N(0, deviation²), with weight decay.
inline ParameterSpec dense_spec(const std::string& name, std::int64_t outputs, std::int64_t inputs, double deviation) {
  return {.name = name,
          .shape = {outputs, inputs},
          .decay = true,
          .product = true,
          .fp8 = Fp8Level::all,
          .initial = initial::normal(deviation)};
}
/// The same for a mixer's input projection.
inline ParameterSpec projection_spec(const std::string& name, std::int64_t outputs, std::int64_t inputs,
                                     double deviation) {
  ParameterSpec spec = dense_spec(name, outputs, inputs, deviation);
  spec.fp8 = Fp8Level::projections;
  return spec;
}
/// Its bias [outputs], initially 0, without weight decay.
inline ParameterSpec bias_spec(const std::string& name, std::int64_t outputs) {
  return {.name = name, .shape = {outputs}, .wide = true, .initial = initial::constant(0)};
}
/// StripedHyena 2's standard deviations: √(2/(5D)) for a block's input projections, 2/(layers·√D) for its output
/// projection.
inline double deviation_in(std::int64_t width) { return std::sqrt(2 / (5 * static_cast<double>(width))); }
inline double deviation_out(std::int64_t width, std::size_t layers) {
  return 2 / (static_cast<double>(layers) * std::sqrt(static_cast<double>(width)));
}

/// A matrix in 8-bit floats with memory of its own.
struct Fp8Copy {
  Tensor codes, scales;
  Fp8Format format;

  /// By rows; or by columns, as the transpose, whose rows are filled with zeros to a multiple of 16 elements.
  Fp8Copy(const Stream& stream, TensorView x, Fp8Format of, bool by_columns)
      : Fp8Copy(stream, x.shape, of, by_columns) {
    quantise_to_fp8(stream, {.x = x, .format = of, .by_columns = by_columns, .codes = codes, .scales = scales});
  }
  /// The transpose, with one scale: for sums over the rows.
  Fp8Copy transposed(const Stream& stream) const {
    Fp8Copy result(stream, codes.view().shape, format, true);
    transpose_fp8(stream, {.x = *this, .codes = result.codes, .scales = result.scales});
    return result;
  }
  operator Fp8Matrix() const { return {.codes = codes, .scales = scales, .format = format}; }  // NOLINT

 private:
  Fp8Copy(const Stream& stream, const Shape& of_x, Fp8Format of, bool by_columns)
      : codes(stream, DType::u8, by_columns ? Shape{of_x[1], round_up(of_x[0], 16)} : of_x),
        scales(stream, DType::f32, {codes.view().rows()}),
        format(of) {}
};

/// Whether the device computes a product of a weight with inner extent k on 8-bit floats, into y.
inline bool is_native_fp8(const Stream& stream, const Parameter& weight, std::int64_t k, TensorView y) {
  return weight.fp8 && weight.weight.dtype == DType::bf16 && has_fp8_gemm(stream.device(), k, y);
}

/// An operand of a product with a weight: the tensor itself or, if the weight is one of those in FP8, its values
/// rounded to 8-bit floats.
class Operand {
 public:
  Operand(const Stream& stream, const Parameter& weight, TensorView x, Fp8Format format, bool by_columns)
      : rounded_(weight.fp8 ? Tensor(stream, x.dtype, x.shape) : Tensor()), view_(weight.fp8 ? rounded_.view() : x) {
    if (weight.fp8) round_to_fp8(stream, {.x = x, .format = format, .by_columns = by_columns, .y = rounded_});
  }
  operator TensorView() const { return view_; }  // NOLINT: it stands for a tensor

 private:
  Tensor rounded_;
  TensorView view_;
};

/// Activations have a scale for each token, and so have gradients. A weight has one for each of the elements of the
/// result that it contributes to: for each output forward, for each input backward. So no sum over elements with
/// different scales is needed, and a token's results depend on no other token. In the product that is the weight's
/// gradient, a sum over tokens, activations have a scale for each channel. Gradients keep those of tokens: E5M2 has the
/// range to give codes of all tokens one scale.
inline Operand activation_operand(const Stream& stream, const Parameter& weight, TensorView x,
                                  bool by_channels = false) {
  return {stream, weight, x, Fp8Format::e4m3, by_channels};
}
inline Operand gradient_operand(const Stream& stream, const Parameter& weight, TensorView d_y) {
  return {stream, weight, d_y, Fp8Format::e5m2, false};
}
inline Operand weight_operand(const Stream& stream, const Parameter& weight, bool backward) {
  return {stream, weight, weight.weight, Fp8Format::e4m3, backward};
}

/// y = x·Wᵀ + beta·y.
inline void multiply_by(const Stream& stream, const Parameter& weight, TensorView x, TensorView y, double beta = 0) {
  if (is_native_fp8(stream, weight, x.columns(), y))
    return fp8_gemm(stream, {.a = Fp8Copy(stream, x, Fp8Format::e4m3, false),
                             .b = Fp8Copy(stream, weight.weight, Fp8Format::e4m3, false),
                             .beta = beta,
                             .c = y});
  gemm(stream, {.a = activation_operand(stream, weight, x),
                .b = weight_operand(stream, weight, false),
                .transpose_b = true,
                .beta = beta,
                .c = y});
}
/// Whether the product that is a weight's gradient is native.
inline bool adds_in_fp8(const Stream& stream, const Parameter& weight, TensorView x) {
  return is_native_fp8(stream, weight, round_up(x.rows(), 16), weight.gradient);
}
/// Adds d_yᵀ·x to the gradient of a parameter. `codes` are d_y's by rows, if there are any.
inline void add_product(const Stream& stream, const Parameter& weight, TensorView d_y, TensorView x,
                        const std::optional<Fp8Copy>& codes) {
  const double beta = std::exchange(weight.gradient_unwritten, false) ? 0 : 1;
  if (codes && adds_in_fp8(stream, weight, x))
    return fp8_gemm(stream, {.a = codes->transposed(stream),
                             .b = Fp8Copy(stream, x, Fp8Format::e4m3, true),
                             .beta = beta,
                             .c = weight.gradient});
  gemm(stream, {.a = gradient_operand(stream, weight, d_y),
                .b = activation_operand(stream, weight, x, true),
                .transpose_a = true,
                .beta = beta,
                .c = weight.gradient});
}
inline void add_product(const Stream& stream, const Parameter& weight, TensorView d_y, TensorView x) {
  std::optional<Fp8Copy> codes;
  if (adds_in_fp8(stream, weight, x)) codes.emplace(stream, d_y, Fp8Format::e5m2, false);
  add_product(stream, weight, d_y, x, codes);
}

/// The adjoint of multiply_by: d_x = d_y·W, and adds d_yᵀ·x to the weight's gradient.
inline void multiply_back(const Stream& stream, const Parameter& weight, TensorView d_y, TensorView x, TensorView d_x) {
  const bool native = is_native_fp8(stream, weight, d_y.columns(), d_x);
  std::optional<Fp8Copy> codes;
  if (native || adds_in_fp8(stream, weight, x)) codes.emplace(stream, d_y, Fp8Format::e5m2, false);
  if (native)
    fp8_gemm(stream, {.a = *codes, .b = Fp8Copy(stream, weight.weight, Fp8Format::e4m3, true), .c = d_x});
  else
    gemm(stream, {.a = gradient_operand(stream, weight, d_y), .b = weight_operand(stream, weight, true), .c = d_x});
  add_product(stream, weight, d_y, x, codes);
}

/// y = x·Wᵀ + bias (if there is one), in x's dtype: [T, inputs] → [T, outputs].
inline Tensor dense(const Stream& stream, const Parameter& weight, TensorView x, const Parameter* bias = nullptr) {
  Tensor y(stream, x.dtype, {x.rows(), weight.spec.shape[0]});
  if (bias != nullptr) bias_forward(stream, {.bias = bias->weight, .y = y});
  multiply_by(stream, weight, x, y, bias != nullptr ? 1.0 : 0.0);
  return y;
}

/// Returns d_x = d_y·W, and adds d_yᵀ·x to W's gradient and the sum of d_y's rows to the bias's.
inline Tensor dense_backward(const Stream& stream, const Parameter& weight, TensorView x, TensorView d_y,
                             const Parameter* bias = nullptr) {
  if (bias != nullptr) bias_backward(stream, {.d_y = d_y, .d_bias = bias->gradient});
  Tensor d_x(stream, x.dtype, x.shape);
  multiply_back(stream, weight, d_y, x, d_x);
  return d_x;
}

/// dense_backward of a sublayer's first product, whose input exists for a tile at a time.
inline void dense_backward(const Stream& stream, const Parameter& weight, const TiledInput& x, TensorView d_y) {
  x.for_each_tile([&](TensorView tile, std::int64_t first) {
    return dense_backward(stream, weight, tile, d_y.slice_rows(first, tile.rows()));
  });
}

}  // namespace causeway

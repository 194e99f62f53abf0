#pragma once

#include <cmath>
#include <string>
#include <utility>

#include "kernels/bias.hpp"
#include "kernels/gemm.hpp"
#include "src/model/parameters/initial_values.hpp"
#include "src/model/parameters/parameter_set.hpp"

namespace causeway {

/// A dense layer's weight [outputs, inputs], initially N(0, deviation²), with weight decay.
inline ParameterSpec dense_spec(const std::string& name, std::int64_t outputs, std::int64_t inputs, double deviation) {
  return {
      .name = name, .shape = {outputs, inputs}, .decay = true, .product = true, .initial = initial::normal(deviation)};
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

/// Adds d_yᵀ·x to the gradient of a parameter.
inline void add_product(const Stream& stream, const Parameter& weight, TensorView d_y, TensorView x) {
  const double beta = std::exchange(weight.gradient_unwritten, false) ? 0 : 1;
  gemm(stream, {.a = d_y, .b = x, .transpose_a = true, .beta = beta, .c = weight.gradient});
}

/// y = x·Wᵀ + bias (if there is one), in x's dtype: [T, inputs] → [T, outputs].
inline Tensor dense(const Stream& stream, const Parameter& weight, TensorView x, const Parameter* bias = nullptr) {
  Tensor y(stream, x.dtype, {x.rows(), weight.spec.shape[0]});
  if (bias != nullptr) bias_forward(stream, {.bias = bias->weight, .y = y});
  gemm(stream, {.a = x, .b = weight.weight, .transpose_b = true, .beta = bias != nullptr ? 1.0 : 0.0, .c = y});
  return y;
}

/// Returns d_x = d_y·W, and adds d_yᵀ·x to W's gradient and the sum of d_y's rows to the bias's.
inline Tensor dense_backward(const Stream& stream, const Parameter& weight, TensorView x, TensorView d_y,
                             const Parameter* bias = nullptr) {
  if (bias != nullptr) bias_backward(stream, {.d_y = d_y, .d_bias = bias->gradient});
  Tensor d_x(stream, x.dtype, x.shape);
  gemm(stream, {.a = d_y, .b = weight.weight, .c = d_x});
  add_product(stream, weight, d_y, x);
  return d_x;
}

}  // namespace causeway

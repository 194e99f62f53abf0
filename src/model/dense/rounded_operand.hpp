#pragma once

#include "kernels/fp8/fp8.hpp"
#include "src/model/parameters/parameter_layout.hpp"

namespace causeway {

/// An operand of a product with a weight: the tensor itself or, if the weight is one of those in FP8, its values
/// rounded to 8-bit floats, in the compute type. The specification of products in FP8.
class RoundedOperand {
 public:
  RoundedOperand(const Stream& stream, const Parameter& weight, TensorView x, Fp8Format format, bool by_columns)
      : rounded_(weight.fp8 ? Tensor(stream, x.dtype, x.shape) : Tensor()), view_(weight.fp8 ? rounded_.view() : x) {
    if (weight.fp8) round_to_fp8(stream, {.x = x, .format = format, .by_columns = by_columns, .y = rounded_});
  }
  operator TensorView() const { return view_; }  // NOLINT: it stands for a tensor

 private:
  Tensor rounded_;
  TensorView view_;
};

/// Activations have a scale for each token, and so have gradients. A weight has one for each of the elements of the
/// result that it contributes to: for each output forward, for each input backward. So forward and for d_x no sum over
/// elements with different scales is needed. In the weight's gradient, a sum over tokens, the same numbers of
/// activations and gradients are multiplied, each term with its token's scales.
inline RoundedOperand activation_operand(const Stream& stream, const Parameter& weight, TensorView x) {
  return {stream, weight, x, Fp8Format::e4m3, false};
}
inline RoundedOperand gradient_operand(const Stream& stream, const Parameter& weight, TensorView d_y) {
  return {stream, weight, d_y, Fp8Format::e5m2, false};
}
inline RoundedOperand weight_operand(const Stream& stream, const Parameter& weight, bool backward) {
  return {stream, weight, weight.weight, Fp8Format::e4m3, backward};
}

}  // namespace causeway

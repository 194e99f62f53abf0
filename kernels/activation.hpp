#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// silu(x) = x·σ(x); gelu(x) = x·Φ(x) with the normal distribution's Φ by erf (Hendrycks & Gimpel, arXiv 1606.08415;
/// PyTorch's default, which StripedHyena 2's gated MLP calls), not its tanh approximation.
enum class Activation : std::uint8_t { none, silu, gelu };

constexpr std::string_view name_of(Activation activation) {
  switch (activation) {
    case Activation::none:
      return "none";
    case Activation::silu:
      return "silu";
    case Activation::gelu:
      return "gelu";
  }
  return "?";
}

/// y = act(a) ⊙ b, the middle of a gated MLP (Shazeer, arXiv 2002.05202). a, b and y of one shape and dtype, any row
/// strides.
struct GatedActivationForward {
  TensorView a, b;
  Activation activation = Activation::none;
  TensorView y;
};
extern const Kernel<GatedActivationForward> gated_activation_forward;

/// d_a = d_y ⊙ b ⊙ act'(a), d_b = d_y ⊙ act(a); each may stand where its input stands.
struct GatedActivationBackward {
  TensorView a, b;
  Activation activation = Activation::none;
  TensorView d_y, d_a, d_b;
};
extern const Kernel<GatedActivationBackward> gated_activation_backward;

/// y = a ⊙ b, or y += a ⊙ b with `accumulate`: the gates of a convolution that a strategy applies itself. One shape and
/// dtype, any row strides.
struct Multiply {
  TensorView a, b;
  bool accumulate = false;
  TensorView y;
};
extern const Kernel<Multiply> multiply;

/// y = alpha·x, converting from x's dtype to y's (round to nearest even), or y += alpha·x with `accumulate`. Same
/// shapes, any strides.
struct Scale {
  TensorView x;
  double alpha = 1;
  bool accumulate = false;
  TensorView y;
};
extern const Kernel<Scale> scale;

/// y = value everywhere.
struct Fill {
  double value = 0;
  TensorView y;
};
extern const Kernel<Fill> fill;

/// A = -exp(A_log), Mamba's state decay rates; with A_log [D, N] of A's dtype.
struct NegativeExponential {
  TensorView x, y;
};
extern const Kernel<NegativeExponential> negative_exponential;

/// Backward of A = -exp(A_log): d_x += d_y ∘ y.
struct NegativeExponentialBackward {
  TensorView y, d_y, d_x;
};
extern const Kernel<NegativeExponentialBackward> negative_exponential_backward;

/// sum[0] += Σ x, sum being one float64. Fixed order; on the CPU that of the elements.
struct SumOfElements {
  TensorView x;
  TensorView sum;
};
extern const Kernel<SumOfElements> sum_of_elements;

/// sum[0] += Σ x², sum being one float64. Fixed order.
struct SumOfSquares {
  TensorView x;
  TensorView sum;
};
extern const Kernel<SumOfSquares> sum_of_squares;

}  // namespace causeway

#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.hpp"
#include "kernels/tensor.hpp"

namespace causeway {

enum class Activation : std::uint8_t { none, silu };

constexpr std::string_view name_of(Activation activation) { return activation == Activation::silu ? "silu" : "none"; }

/// y = alpha·x, converting from x's dtype to y's (round to nearest even), or y += alpha·x with `accumulate`. Same shapes, any strides.
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

/// sum[0] += Σ x², sum being one float64. Fixed order.
struct SumOfSquares {
  TensorView x;
  TensorView sum;
};
extern const Kernel<SumOfSquares> sum_of_squares;

}  // namespace causeway

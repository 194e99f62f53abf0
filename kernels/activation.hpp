#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/fp8/fp8.hpp"

/// Pointwise kernels. Unless a member says otherwise, all tensors of a call have one shape and one dtype, row strides
/// are free, and the computation is in the accumulator type, rounded once to the result's dtype (to nearest even).
/// Every kernel throws Error(internal) if shapes or dtypes do not fit.
namespace causeway {

/// silu(x) = x·σ(x); gelu(x) = x·Φ(x), with Φ of the normal distribution computed by erf (Hendrycks & Gimpel, arXiv
/// 1606.08415; PyTorch's default, which the gated MLP of StripedHyena 2 uses), not by the tanh approximation.
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

/// y = act(a) ⊙ b: the middle of a gated MLP (Shazeer, arXiv 2002.05202).
struct GatedActivationForward {
  TensorView a, b;
  Activation activation = Activation::none;
  TensorView y;
  Fp8Matrix y_codes;  ///< in place of y: y in bf16 as quantise_to_fp8 by rows makes it
};
extern const Kernel<GatedActivationForward> gated_activation_forward;

/// d_a = d_y ⊙ b ⊙ act'(a), d_b = d_y ⊙ act(a). d_a may be the same memory as a, d_b the same as b, y the same as d_y.
struct GatedActivationBackward {
  TensorView a, b;
  Activation activation = Activation::none;
  TensorView d_y, d_a, d_b;
  TensorView y;  ///< if present, also y = act(a) ⊙ b, with the bits of gated_activation_forward; not with d_codes
  Fp8Matrix d_codes;  ///< in place of d_a and d_b: both side by side in bf16, as quantise_to_fp8 by rows makes them
};
extern const Kernel<GatedActivationBackward> gated_activation_backward;

/// y = a ⊙ b, or y += a ⊙ b with `accumulate`: the gates of a convolution, for strategies that apply them themselves.
struct Multiply {
  TensorView a, b;
  bool accumulate = false;
  TensorView y;
};
extern const Kernel<Multiply> multiply;

/// y = alpha·x, or y += alpha·x with `accumulate`. x and y may differ in dtype: with alpha = 1 it is a conversion.
struct Scale {
  TensorView x;
  double alpha = 1;
  bool accumulate = false;
  TensorView y;
};
extern const Kernel<Scale> scale;

/// y = Σ_i part_i, or y += Σ_i part_i with `accumulate`, in the type of y: ((part_0 + part_1) + part_2) + …, the order
/// in which Transport's reductions add. All are [n], dense.
struct SumOfRankParts {
  TensorView received;  ///< [ranks, n]: the part of each rank but `rank`
  TensorView own;       ///< the part of `rank`, of the type of y; may be the same memory as y
  std::int64_t rank = 0;
  bool accumulate = false;
  TensorView y;
};
extern const Kernel<SumOfRankParts> sum_of_rank_parts;

/// Every element of y becomes `value`.
struct Fill {
  double value = 0;
  TensorView y;
};
extern const Kernel<Fill> fill;

/// y = -exp(x): the state matrix A = -exp(A_log) of Mamba (arXiv 2312.00752).
struct NegativeExponential {
  TensorView x;  ///< A_log, [D, N]
  TensorView y;  ///< A, [D, N]
};
extern const Kernel<NegativeExponential> negative_exponential;

/// Backward of y = -exp(x): d_x += d_y ⊙ y.
struct NegativeExponentialBackward {
  TensorView y, d_y, d_x;
};
extern const Kernel<NegativeExponentialBackward> negative_exponential_backward;

/// sum[0] += Σ x. Added in a fixed order; on the CPU in the order of the elements.
struct SumOfElements {
  TensorView x;    ///< any shape and floating-point dtype
  TensorView sum;  ///< one f64
};
extern const Kernel<SumOfElements> sum_of_elements;

/// sum[0] += Σ x². Added in a fixed order.
struct SumOfSquares {
  TensorView x;    ///< any shape and floating-point dtype
  TensorView sum;  ///< one f64
};
extern const Kernel<SumOfSquares> sum_of_squares;

}  // namespace causeway

#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// RMSNorm (Zhang & Sennrich, arXiv 1910.07467) of a residual stream: residual += x (if x is present), then
/// y[t,d] = weight[d] · residual[t,d] · rstd[t] with rstd = 1/√(mean_d residual² + eps). The residual stream, the
/// weight and all sums are in the accumulator type of y's dtype. Throws Error(internal) if shapes or dtypes do not fit
/// or D = 0.
struct RmsNormForward {
  TensorView x;         ///< [tokens, D], y's dtype, or absent
  TensorView residual;  ///< [tokens, D], accumulator type, updated in place
  TensorView weight;    ///< [D], accumulator type
  double eps = 1e-5;
  TensorView y;     ///< [tokens, D]
  TensorView rstd;  ///< [tokens], accumulator type, written
};
extern const Kernel<RmsNormForward> rms_norm_forward;

/// d_residual += ∂loss/∂residual through y; d_weight += Σ_t d_y · residual · rstd, in a fixed order.
struct RmsNormBackward {
  TensorView residual, weight, rstd;  ///< as the forward left them
  TensorView d_y;                     ///< [tokens, D]
  TensorView d_residual;              ///< [tokens, D], accumulator type, added to
  TensorView d_weight;                ///< [D], accumulator type, added to
};
extern const Kernel<RmsNormBackward> rms_norm_backward;

}  // namespace causeway

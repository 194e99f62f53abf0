#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// residual += x (where x is present), then y[t,d] = weight[d] · residual[t,d] · rstd[t], rstd = 1/√(mean_d residual² +
/// eps). Zhang & Sennrich, RMSNorm (arXiv 1910.07467). The residual stream and the weight are in the accumulator type.
struct RmsNormForward {
  TensorView x;         ///< [tokens, D], or absent
  TensorView residual;  ///< [tokens, D], accumulator type, updated in place
  TensorView weight;    ///< [D], accumulator type
  double eps = 1e-5;
  TensorView y;     ///< [tokens, D]
  TensorView rstd;  ///< [tokens], accumulator type, written
};
extern const Kernel<RmsNormForward> rms_norm_forward;

/// d_residual += ∂loss/∂residual through y; d_weight += Σ_t d_y · residual · rstd.
struct RmsNormBackward {
  TensorView residual, weight, rstd;  ///< residual as the forward left it
  TensorView d_y;                     ///< [tokens, D]
  TensorView d_residual;              ///< [tokens, D], accumulator type, added to
  TensorView d_weight;                ///< [D], accumulator type, added to
};
extern const Kernel<RmsNormBackward> rms_norm_backward;

}  // namespace causeway

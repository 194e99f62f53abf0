#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// Where RMSNorm adds eps, with ms = mean_d residual²: inside the root, rstd = 1/√(ms + eps), as the paper and Mamba;
/// or outside, rstd = 1/(√ms + eps), as the published StripedHyena 2 models.
enum class NormForm : std::uint8_t { inside, outside };

/// RMSNorm (Zhang & Sennrich, arXiv 1910.07467) of a residual stream: residual += x (if x is present), then
/// y[t,d] = weight[d] · residual[t,d] · rstd[t]. The residual stream, the weight and all sums are in the accumulator
/// type of y's dtype. Throws Error(internal) if shapes or dtypes do not fit or D = 0.
struct RmsNormForward {
  TensorView x;         ///< [tokens, D], y's dtype, or absent
  TensorView residual;  ///< [tokens, D], accumulator type, updated in place
  TensorView weight;    ///< [D], accumulator type
  double eps = 1e-5;
  NormForm form = NormForm::inside;
  TensorView y;     ///< [tokens, D]
  TensorView rstd;  ///< [tokens], accumulator type, written
};
extern const Kernel<RmsNormForward> rms_norm_forward;

/// With n = residual · rstd and g = d_y · weight: d_residual += rstd · (g - n · c · mean_d(g·n)), where c = 1 for the
/// form inside and c = (√ms + eps)/√ms = 1/(1 - eps·rstd) for outside (c = 0 where ms = 0); d_weight += Σ_t d_y · n, in
/// a fixed order.
struct RmsNormBackward {
  TensorView residual, weight, rstd;  ///< as the forward left them
  double eps = 1e-5;
  NormForm form = NormForm::inside;
  TensorView d_y;         ///< [tokens, D]
  TensorView d_residual;  ///< [tokens, D], accumulator type, added to
  TensorView d_weight;    ///< [D], accumulator type, added to
};
extern const Kernel<RmsNormBackward> rms_norm_backward;

}  // namespace causeway

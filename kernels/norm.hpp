#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/fp8/fp8.hpp"

namespace causeway {

/// Where RMSNorm adds eps, with ms = mean_d residual²: inside the root, rstd = 1/√(ms + eps), as the paper and Mamba;
/// or outside, rstd = 1/(√ms + eps), as the published StripedHyena 2 models.
enum class NormForm : std::uint8_t { inside, outside };

/// RMSNorm (Zhang & Sennrich, arXiv 1910.07467) of a residual stream: sum = residual + x (residual if x is absent),
/// then y[t,d] = weight[d] · sum[t,d] · rstd[t]. The residual stream, the weight and all sums are in the accumulator
/// type of y's dtype. Throws Error(internal) if shapes or dtypes do not fit, if D = 0, or if `sum` is present without
/// x.
struct RmsNormForward {
  TensorView x;         ///< [tokens, D], y's dtype, or absent
  TensorView residual;  ///< [tokens, D], accumulator type; if x is present and `sum` is absent, the sum replaces it
  TensorView sum;       ///< [tokens, D], accumulator type, written; or absent
  TensorView weight;    ///< [D], accumulator type
  double eps = 1e-5;
  NormForm form = NormForm::inside;
  TensorView y;     ///< [tokens, D]; may be absent if y_codes are present
  TensorView rstd;  ///< [tokens], accumulator type, written
  /// y in bf16 as quantise_to_fp8 by rows makes it; or absent.
  Fp8Matrix y_codes;
};
extern const Kernel<RmsNormForward> rms_norm_forward;

/// With n = residual · rstd and g = d_y · weight: d_residual = beta · d_residual + rstd · (g - n · c · mean_d(g·n)),
/// where c = 1 for the form inside and c = (√ms + eps)/√ms = 1/(1 - eps·rstd) for outside (c = 0 where ms = 0);
/// d_weight += Σ_t d_y · n, in a fixed order. With beta = 0 the old d_residual is not read.
struct RmsNormBackward {
  TensorView residual, weight, rstd;  ///< as the forward left them; residual is its sum
  double eps = 1e-5;
  NormForm form = NormForm::inside;
  TensorView d_y;         ///< [tokens, D]
  double beta = 1;        ///< 1 or 0
  TensorView d_residual;  ///< [tokens, D], accumulator type
  TensorView d_narrow;    ///< [tokens, D], d_y's dtype: the new d_residual, rounded, is written; or absent
  TensorView d_weight;    ///< [D], accumulator type, added to
  /// The new d_residual rounded to bf16, as quantise_to_fp8 by rows makes it; or absent.
  Fp8Matrix d_narrow_codes;
};
extern const Kernel<RmsNormBackward> rms_norm_backward;

}  // namespace causeway

#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// What AdamW multiplies gradients with, decided where they are so that no step waits for it: norm = scale·√squares,
/// and factor = scale, or scale·clip/norm where clip > 0 and the norm is above it; NaN where norm or loss is not
/// finite. All views one f64.
struct GradientFactor {
  TensorView squares;  ///< Σ gradient²
  TensorView loss;     ///< or absent
  double scale = 1;
  double clip = 0;  ///< largest norm; 0: any
  TensorView norm, factor;
};
extern const Kernel<GradientFactor> gradient_factor;

/// One AdamW step with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), all tensors one flat [n] in the
/// accumulator type: g = gradient_scale·factor·gradient; m = β₁m + (1-β₁)g; v = β₂v + (1-β₂)g²; master -=
/// learning_rate·( m/(1-β₁^step) / (√(v/(1-β₂^step)) + eps) + weight_decay·master ). Where the factor is not finite
/// nothing changes.
struct AdamW {
  TensorView gradient;
  TensorView factor;  ///< one f64, or absent: 1
  double gradient_scale = 1, learning_rate = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  std::int64_t step = 1;  ///< from 1
  TensorView master, exp_avg, exp_avg_sq;
};
extern const Kernel<AdamW> adamw;

}  // namespace causeway

#pragma once

#include <cstdint>

#include "kernels/kernel.hpp"
#include "kernels/tensor.hpp"

namespace causeway {

/// One AdamW step with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), all tensors one flat [n] in the accumulator type:
/// g = gradient_scale·gradient; m = β₁m + (1-β₁)g; v = β₂v + (1-β₂)g²;
/// master -= learning_rate·( m/(1-β₁^step) / (√(v/(1-β₂^step)) + eps) + weight_decay·master ).
struct AdamW {
  TensorView gradient;
  double gradient_scale = 1, learning_rate = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  std::int64_t step = 1;  ///< from 1
  TensorView master, exp_avg, exp_avg_sq;
};
extern const Kernel<AdamW> adamw;

}  // namespace causeway

#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// The factor by which AdamW multiplies gradients: averaging and clipping of the global norm. It is computed on the
/// device, so that a training step does not wait for the host. norm = scale·√squares; factor = scale·clip/norm if
/// clip > 0 and norm > clip, otherwise scale; NaN if norm or loss is not finite. All views are one f64.
struct GradientFactor {
  TensorView squares;       ///< Σ gradient²
  TensorView loss;          ///< or absent
  double scale = 1;         ///< for example 1 / number of labels
  double clip = 0;          ///< maximum norm; 0: no clipping
  TensorView norm, factor;  ///< written
};
extern const Kernel<GradientFactor> gradient_factor;

/// One step of AdamW with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101). With
/// g = gradient_scale·factor·gradient:
///     exp_avg    = β₁·exp_avg + (1-β₁)·g
///     exp_avg_sq = β₂·exp_avg_sq + (1-β₂)·g²
///     master    -= learning_rate·( exp_avg/(1-β₁^step) / (√(exp_avg_sq/(1-β₂^step)) + eps) + weight_decay·master )
///     weights    = master, rounded to the compute type
/// All tensors are flat, [n]. All but `weights` have one accumulator type (f64 or f32), which is that of weights'
/// dtype. If the factor is not finite, nothing changes. Both devices compute the same bits. Throws Error(internal) if
/// step < 1 or dtypes do not fit.
struct AdamW {
  TensorView gradient;
  TensorView factor;  ///< one f64, or absent: 1
  double gradient_scale = 1, learning_rate = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  std::int64_t step = 1;                   ///< counted from 1
  TensorView master, exp_avg, exp_avg_sq;  ///< weights, first and second moment: updated in place
  TensorView weights;                      ///< written; or absent
  /// On a GPU: after what the stream has been given so far, but beside what it is given later, whose kernels go first.
  bool in_background = false;
};
extern const Kernel<AdamW> adamw;

/// What is enqueued from now on starts after the calls of adamw in this stream's background up to the `calls`-th.
struct AwaitAdamW {
  std::int64_t calls = 0;
};
extern const Kernel<AwaitAdamW> await_adamw;

}  // namespace causeway

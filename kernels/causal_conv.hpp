#pragma once

#include "kernels/activation.hpp"
#include "kernels/core/kernel.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// y[t,d] = act(bias[d] + Σ_{j<W} weight[d,W-1-j] · x[t-j,d]), the sum stopping at the start of t's document.
/// Rows before the run come from `halo`. PackMamba (arXiv 2408.03865) §3; PyTorch's conv1d tap order: weight[:,W-1]
/// meets the current token.
struct CausalConvForward {
  TensorView x;       ///< [tokens, D]
  TensorView halo;    ///< [W-1, D], the rows just before x, the nearest last; read only where a document reaches back.
                      ///< Absent where none does.
  TensorView weight;  ///< [D, W]
  TensorView bias;    ///< [D], or absent
  SegmentsView segments;  ///< of this run
  Activation activation = Activation::none;
  TensorView y;  ///< [tokens, D]
};
extern const Kernel<CausalConvForward> causal_conv_forward;

/// With g = d_y ∘ act'(pre-activation, recomputed): d_x[t] = Σ_j weight[W-1-j]·g[t+j], d_weight[W-1-j] += Σ_t
/// g[t]·x[t-j], d_bias += Σ_t g[t]; every sum inside its document and over this run's g only. What belongs to rows
/// before the run goes to d_halo.
struct CausalConvBackward {
  TensorView x, halo, weight, bias;  ///< as in forward
  SegmentsView segments;
  Activation activation = Activation::none;
  TensorView d_y;       ///< [tokens, D]
  TensorView d_x;       ///< [tokens, D], written
  TensorView d_halo;    ///< [W-1, D], written (zero where nothing reaches); absent where no document reaches back
  TensorView d_weight;  ///< [D, W] in the accumulator type, added to
  TensorView d_bias;    ///< [D] likewise, or absent
};
extern const Kernel<CausalConvBackward> causal_conv_backward;

}  // namespace causeway

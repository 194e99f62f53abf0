#pragma once

#include "kernels/activation.hpp"
#include "kernels/core/kernel.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"
#include "kernels/gemm.hpp"

namespace causeway {

/// The depthwise convolution of Mamba: y[t,d] = act(bias[d] + Σ_{j<W} weight[d,W-1-j] · x[t-j,d]). The sum stops at the
/// start of t's document (PackMamba, arXiv 2408.03865 §3). Taps are in the order of PyTorch's conv1d: weight[:,W-1]
/// belongs to the current token. Rows before the run come from `halo`. Sums are in the accumulator type. Throws
/// Error(internal) if shapes or dtypes do not fit, for gelu, or if a document begins before the run and `halo` is
/// absent.
struct CausalConvForward {
  TensorView x;       ///< [tokens, D]
  TensorView halo;    ///< [W-1, D], x's dtype: the rows just before x, the nearest one last. Read only as far as the
                      ///< run's first document reaches back. May be absent if it does not.
  TensorView weight;  ///< [D, W], x's dtype
  TensorView bias;    ///< [D], x's dtype, or absent
  SegmentsView segments;                     ///< documents of this run
  Activation activation = Activation::none;  ///< none or silu
  TensorView y;                              ///< [tokens, D], x's dtype
};
extern const Kernel<CausalConvForward> causal_conv_forward;

/// With g = d_y ⊙ act'(pre-activation), which is computed again: d_x[t] = Σ_j weight[W-1-j]·g[t+j];
/// d_weight[W-1-j] += Σ_t g[t]·x[t-j]; d_bias += Σ_t g[t]. Every sum stays within one document and takes only this
/// run's g. Gradients of rows before the run are returned in d_halo. With `d_y_product` the gradient of y is not d_y
/// but d_y + a·b: in Mamba, y is also the input of x_proj, whose gradient is that product. On a GPU one kernel may then
/// do both.
struct CausalConvBackward {
  TensorView x, halo, weight, bias;  ///< as in forward
  SegmentsView segments;
  Activation activation = Activation::none;
  TensorView d_y;  ///< [tokens, D], x's dtype. With d_y_product its values are unspecified afterwards: the sum is
                   ///< either written to it, rounded to its dtype, or only computed
  struct {
    TensorView a;  ///< [tokens, K], x's dtype, or absent
    TensorView b;  ///< [K, D], x's dtype
  } d_y_product;
  TensorView d_x;       ///< [tokens, D], x's dtype, written
  TensorView d_halo;    ///< [W-1, D], x's dtype, written, zero in rows that no document reaches. May be absent if no
                        ///< document reaches back
  TensorView d_weight;  ///< [D, W], accumulator type, added to
  TensorView d_bias;    ///< [D], accumulator type, added to; or absent
};
extern const Kernel<CausalConvBackward> causal_conv_backward;

/// The same backward without d_y_product, which is added to d_y: for implementations and strategies that need the sum.
inline CausalConvBackward with_product_added_to_d_y(const Stream& stream, CausalConvBackward args) {
  const auto& [a, b] = args.d_y_product;
  if (a.present()) gemm(stream, {.a = a, .b = b, .beta = 1, .c = args.d_y});
  args.d_y_product = {};
  return args;
}

}  // namespace causeway

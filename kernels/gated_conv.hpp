#pragma once

#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// Inputs of every gated convolution of StripedHyena 2 (arXiv 2503.01868), in addition to its filter h:
/// y = q ⊙ ( h∗(k⊙v) + skip ⊙ (k⊙v) ). Without k the product k⊙v is v itself; without q the output is not gated. So
/// long_conv, and strategies that apply the gates themselves, use the same kernels. The product k⊙v is rounded to v's
/// dtype: a row of it has the same bits in the run, in a halo and in a separate tensor. Without a halo it may be exact.
struct GatedConvInputs {
  TensorView q, k;        ///< [tokens, D], or absent
  TensorView v;           ///< [tokens, D]
  TensorView skip;        ///< [D], v's dtype or its accumulator type, or absent
  SegmentsView segments;  ///< documents of this run
};

/// Gradients of a gated convolution. With kv = k⊙v, c = h∗kv + skip⊙kv and dc = d_y⊙q: d_q = d_y⊙c;
/// d_kv[t] = Σ_j h[j] dc[t+j] + skip dc[t], over the tokens t+j of t's document within the run; d_k = d_kv⊙v;
/// d_v = d_kv⊙k; d_skip += Σ_t dc kv.
struct GatedConvGradients {
  TensorView d_y;            ///< [tokens, D], v's dtype, read
  TensorView d_q, d_k, d_v;  ///< [tokens, D], v's dtype, written; d_q and d_k are absent if q and k are
  TensorView d_skip;         ///< [D], accumulator type, added to; absent if skip is
};

}  // namespace causeway

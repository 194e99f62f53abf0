#pragma once

#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// What every gated convolution of StripedHyena 2 (arXiv 2503.01868) reads beside its filter h: y = q ⊙ ( h∗(k⊙v) +
/// skip ⊙ (k⊙v) ). Without k the product is v itself, without q nothing gates the output: so the plain convolution of
/// strategies that keep the gates outside, and of long_conv. The product is rounded to v's dtype, so that a row of it
/// is the same number in the run, in a halo and in a materialised tensor.
struct GatedConvInputs {
  TensorView q, k;        ///< [tokens, D], or absent
  TensorView v;           ///< [tokens, D]
  TensorView skip;        ///< [D], v's dtype or its accumulator type, or absent
  SegmentsView segments;  ///< of this run
};

/// With kv = k⊙v, c = h∗kv + skip⊙kv and dc = d_y⊙q: d_q = d_y⊙c; d_kv[t] = Σ_j h[j] dc[t+j] + skip dc[t], in t's
/// document and the run; d_k = d_kv⊙v; d_v = d_kv⊙k; d_skip += Σ_t dc kv.
struct GatedConvGradients {
  TensorView d_y;            ///< [tokens, D], read
  TensorView d_q, d_k, d_v;  ///< [tokens, D], written; d_q and d_k absent with q and k
  TensorView d_skip;         ///< [D], accumulator type, added to; absent with skip
};

}  // namespace causeway

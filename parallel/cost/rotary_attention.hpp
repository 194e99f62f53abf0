#pragma once

#include "kernels/attention.hpp"

namespace causeway {

/// Packed causal multi-head attention with RoPE over ranks: rotates queries and keys by their position in the document,
/// then y = softmax(q·kᵀ/√E)·v (kernels/attention.hpp). q, k, v, y are this rank's rows, [local tokens, H, E].
struct RotaryAttentionForward {
  TensorView q, k, v;
  RopeAngles rope = {.base = 0};  ///< base 0: no RoPE
  TensorView y;
};

/// Writes d_q, d_k and d_v, of the shape of q, k and v.
struct RotaryAttentionBackward {
  TensorView q, k, v;
  RopeAngles rope = {.base = 0};
  TensorView d_y;
  TensorView d_q, d_k, d_v;
};

}  // namespace causeway

#pragma once

#include "kernels/attention.hpp"

namespace causeway {

/// Packed causal multi-head attention with RoPE over ranks: rotates queries and keys by their position in the document,
/// then y = softmax(q·kᵀ/√E)·v (kernels/attention.hpp). q, k, v, y are this rank's rows, [local tokens, H, E].
/// With `rotate_in_place`, q and k hold the rotated values afterwards: on one rank nothing is copied then.
struct RotaryAttentionForward {
  TensorView q, k, v;
  RopeAngles rope = {.base = 0};  ///< base 0: no RoPE
  bool rotate_in_place = false;
  TensorView y;
};

/// Writes d_q, d_k and d_v, of the shape of q, k and v: the gradients of q and k before RoPE. q and k are as forward
/// left them, y is its result.
struct RotaryAttentionBackward {
  TensorView q, k, v;
  RopeAngles rope = {.base = 0};
  bool rotate_in_place = false;
  TensorView y, d_y;
  TensorView d_q, d_k, d_v;  ///< may hold something else until they are written: none overlaps another argument
};

}  // namespace causeway

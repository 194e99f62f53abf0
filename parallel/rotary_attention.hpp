#pragma once

#include "kernels/core/tensor.hpp"

namespace causeway {

/// attention over ranks: packed causal multi-head attention, scale 1/√E, whose queries and keys turn by RoPE first
/// (kernels/attention.hpp). Heads are dealt whole. A rank's rows: q, k, v, y [local tokens, H, E].
struct RotaryAttentionForward {
  TensorView q, k, v;
  double rope_base = 0;  ///< 0: no RoPE
  TensorView y;
};

/// d_q, d_k, d_v are written, like q, k, v.
struct RotaryAttentionBackward {
  TensorView q, k, v;
  double rope_base = 0;
  TensorView d_y;
  TensorView d_q, d_k, d_v;
};

}  // namespace causeway

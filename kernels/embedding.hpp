#pragma once

#include "kernels/kernel.hpp"
#include "kernels/tensor.hpp"

namespace causeway {

/// y[t] = weight[ids[t]].
struct EmbeddingForward {
  TensorView ids;     ///< [tokens] i32
  TensorView weight;  ///< [vocabulary, D]
  TensorView y;       ///< [tokens, D], weight's dtype or its accumulator type
};
extern const Kernel<EmbeddingForward> embedding_forward;

/// d_weight[ids[t]] += d_y[t], in token order.
struct EmbeddingBackward {
  TensorView ids, d_y;
  TensorView d_weight;  ///< [vocabulary, D], accumulator type, added to
};
extern const Kernel<EmbeddingBackward> embedding_backward;

}  // namespace causeway

#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// y[t] = weight[ids[t]]. An id outside the vocabulary throws Error(usage) on the CPU; a GPU cannot throw and writes
/// NaN.
struct EmbeddingForward {
  TensorView ids;     ///< [tokens] i32
  TensorView weight;  ///< [vocabulary, D]
  TensorView y;       ///< [tokens, D], weight's dtype or its accumulator type
};
extern const Kernel<EmbeddingForward> embedding_forward;

/// d_weight[ids[t]] += d_y[t], added in a fixed order: token by token on the CPU, in chunks of tokens on a GPU. Ids
/// outside the vocabulary throw Error(usage) on the CPU; a GPU skips them.
struct EmbeddingBackward {
  TensorView ids;       ///< [tokens] i32
  TensorView d_y;       ///< [tokens, D]
  TensorView d_weight;  ///< [vocabulary, D], accumulator type, added to
};
extern const Kernel<EmbeddingBackward> embedding_backward;

}  // namespace causeway

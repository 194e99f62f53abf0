#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// y[t] = weight[ids[t]]. An id outside of the table is an Error(usage) on the CPU and NaN on a GPU, which cannot
/// throw.
struct EmbeddingForward {
  TensorView ids;     ///< [tokens] i32
  TensorView weight;  ///< [vocabulary, D]
  TensorView y;       ///< [tokens, D], weight's dtype or its accumulator type
};
extern const Kernel<EmbeddingForward> embedding_forward;

/// d_weight[ids[t]] += d_y[t], always in the same order: token by token on the CPU, in pieces on a GPU, which leaves
/// ids outside of the table out.
struct EmbeddingBackward {
  TensorView ids, d_y;
  TensorView d_weight;  ///< [vocabulary, D], accumulator type, added to
};
extern const Kernel<EmbeddingBackward> embedding_backward;

}  // namespace causeway

#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// loss[t] = log Σ_v exp(logits[t,v]) - logits[t, labels[t]], nats; 0 where labels[t] < 0 (no label: a document's last
/// token, or masked). Where d_logits is present: d_logits[t] = softmax(logits[t]) - onehot(labels[t]), or 0 without a
/// label; it may be `logits` itself. A label past the vocabulary is an Error(usage) on the CPU and a NaN loss on a GPU,
/// which cannot throw.
struct CrossEntropy {
  TensorView logits;    ///< [tokens, vocabulary]
  TensorView labels;    ///< [tokens] i32
  TensorView loss;      ///< [tokens], accumulator type, written
  TensorView d_logits;  ///< [tokens, vocabulary], or absent
};
extern const Kernel<CrossEntropy> cross_entropy;

}  // namespace causeway

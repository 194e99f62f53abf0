#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// The loss of each token, in nats: loss[t] = w[t] (log Σ_v exp(logits[t,v]) - logits[t, labels[t]]), w[t] =
/// weight_scale · weights[t]. A negative label means that the token has none (it is the last one of its document, or
/// masked), and so does a weight of 0: its loss is 0, whatever its logits are. If d_logits is present: d_logits[t] =
/// w[t] (softmax(logits[t]) - onehot(labels[t])), or 0 without a label. Computed in the accumulator type. Weights of 1
/// give the same bits as none. A label of the vocabulary's size or more throws Error(usage) on the CPU; a GPU cannot
/// throw and gives the loss NaN.
struct CrossEntropy {
  TensorView logits;  ///< [tokens, vocabulary]
  TensorView labels;  ///< [tokens] i32
  TensorView loss;    ///< [tokens], accumulator type, written
  /// [tokens, vocabulary], written; or absent. Logits' dtype (then it may be the same memory as logits), or bf16 beside
  /// f32 logits, each value rounded once.
  TensorView d_logits;
  TensorView weights = {};  ///< [tokens] f32, of the labels; absent: 1
  double weight_scale = 1;
};
extern const Kernel<CrossEntropy> cross_entropy;

}  // namespace causeway

#pragma once

#include "kernels/attention.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway::cuda {

/// The documents that the fused kernels left to the others.
struct RemainingDocuments {
  bool any = true;
  Tensor computed;  ///< [documents of the run] u8: 1 for a document that the fused kernels computed; absent if none

  /// In device memory; null if none was computed.
  const std::uint8_t* flags() const { return static_cast<const std::uint8_t*>(computed.view().data); }
};

/// Compute, by cuDNN's fused attention, the documents that fused_calls.hpp chooses; the number of launches does not
/// depend on the number of documents. bf16 and heads of 128 elements only. If this build or this GPU has no such
/// graphs, nothing is computed and all documents remain.
RemainingDocuments fused_attention_forward(const Stream& stream, const AttentionForward& args);
RemainingDocuments fused_attention_backward(const Stream& stream, const AttentionBackward& args);

}  // namespace causeway::cuda

#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway::cuda {

/// Compute, by cuDNN's fused attention, the documents that fused_calls.hpp chooses, and return which: an entry for each
/// document of the run, 1 if it was computed. The number of launches does not depend on the number of documents. bf16
/// and heads of 128 elements only. If this build or this GPU has no such graphs, nothing is computed. Without
/// `accumulate`, backward computes only runs with their own keys.
std::vector<std::uint8_t> fused_attention_forward(const Stream& stream, const AttentionForward& args);
std::vector<std::uint8_t> fused_attention_backward(const Stream& stream, const AttentionBackward& args);

/// Bytes that fused_attention_backward takes beside its arguments without `accumulate`. cuDNN adds at most 9 MB.
std::int64_t fused_attention_workspace(const AttentionInputs& in);

/// Whether the keys are those of the queries' run.
inline bool has_own_keys(const AttentionInputs& in) { return in.key_offset == 0 && in.k.rows() == in.segments.tokens; }

/// The documents of a run that are not yet computed.
class RemainingDocuments {
 public:
  RemainingDocuments(const Stream& stream, const SegmentsView& segments, const std::vector<std::uint8_t>& computed);

  bool any() const { return any_; }
  /// For each document whether it is computed, in device memory; null if none is.
  const std::uint8_t* computed() const { return static_cast<const std::uint8_t*>(flags_.view().data); }

 private:
  bool any_ = false;
  Tensor flags_;
};

}  // namespace causeway::cuda

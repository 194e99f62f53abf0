#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/core/integer.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/layout/exchange_plan.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// A document of which several ranks hold tokens, and how those are laid onto equal shards over them: of the document's
/// tokens the rank at position p holds [p·shard(), (p+1)·shard()) then, the last ones fewer, or none.
struct SpanningDocument {
  Range tokens;            ///< of the pack
  std::vector<int> ranks;  ///< that hold some of it, ascending
  int position = 0;        ///< of this rank among them
  /// From this rank's local rows, by receiver, and to rows of its equal shard, by sender; what stays is in both.
  std::vector<RowMove> sends, receives;

  std::int64_t shard() const { return ceil_div(tokens.size(), std::ssize(ranks)); }
  /// Rows that it sends to other ranks when its tokens are laid onto equal shards, and, back: when they return.
  std::int64_t rows_sent() const;
  std::int64_t rows_sent_back() const;
};

/// Of one rank in the contiguous layout: the documents that it shares with others, in order, at most one that began
/// before it and one that goes on after it (or one that does both); and between them the local rows whose documents are
/// all its own. Made purely, in a time that does not depend on the number of documents.
struct SpanPlan {
  std::vector<SpanningDocument> spanning;
  Range within;
};
SpanPlan plan_spans(const ShardLayout& layout, const Segments& segments, int rank);

/// Writes `shards`, a dense [shard(), D] for every document of plan.spanning: its rows, and zeros after the document's
/// end. `local` is [local tokens, D]. One exchange.
void onto_equal_shards(const SpanPlan& plan, TensorView local, std::span<const TensorView> shards, Communicator& ranks,
                       const Stream& stream);
/// Its adjoint and, for those documents' tokens, its inverse: writes their local rows.
void from_equal_shards(const SpanPlan& plan, std::span<const TensorView> shards, TensorView local, Communicator& ranks,
                       const Stream& stream);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/integer.hpp"
#include "kernels/core/segments.hpp"
#include "parallel/layout/row_move.hpp"
#include "parallel/layout/shard_layout.hpp"

namespace causeway {

/// A document of which several ranks hold tokens, and how its rows move onto equal shards of these ranks: there the
/// rank at position p holds document rows [p·shard(), (p+1)·shard()); the last ranks hold fewer rows, or none.
/// exchange/equal_shards.hpp executes the moves.
struct SpanningDocument {
  Range tokens;            ///< global tokens of the document
  std::vector<int> ranks;  ///< the ranks that hold some of them, ascending
  int position = 0;        ///< of this rank in `ranks`
  /// From this rank's local rows (sorted by receiver), and to rows of its equal shard (sorted by sender). Rows that
  /// stay on the rank are in both lists.
  std::vector<RowMove> sends, receives;

  std::int64_t shard() const { return ceil_div(tokens.size(), std::ssize(ranks)); }  ///< rows of an equal shard
  std::int64_t rows_sent() const;       ///< to other ranks, when the rows move onto the equal shards
  std::int64_t rows_sent_back() const;  ///< to other ranks, when they move back
};

/// For one rank in the contiguous layout: the documents that it shares with other ranks, in order, and the rows of all
/// others. There are at most two shared documents: one that begins before the rank's chunk and one that ends after it
/// (or one that does both).
struct SpanPlan {
  std::vector<SpanningDocument> spanning;
  Range unshared_rows;  ///< rank-local rows of the documents that only this rank holds
};

/// A pure function: it communicates with no rank. Its time does not depend on the number of documents.
SpanPlan plan_spans(const ShardLayout& layout, const Segments& segments, int rank);

}  // namespace causeway

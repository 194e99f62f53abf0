#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/layout/carry_plan.hpp"
#include "parallel/layout/halo_plan.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "parallel/layout/span_plan.hpp"

namespace causeway {

/// Rows [begin, end) of a tensor; an absent view stays absent.
inline TensorView rows_of(TensorView x, Range rows) { return x.present() ? x.slice_rows(rows.begin, rows.size()) : x; }
/// Columns [begin, end) of a matrix.
inline TensorView columns_of(TensorView x, Range columns) { return x.slice_columns(columns.begin, columns.size()); }

/// Consecutive tokens of the pack, and the rows in which some tensors hold them: one of the rank's chunks, a part of
/// one (Sharding::sub_chunk), or the whole pack (Sharding::whole_pack). shard_layout.hpp has the legend of the indices.
struct Chunk {
  int index = 0;                      ///< chunk index in the ShardLayout, of a rank's chunk or a part of it
  Range tokens;                       ///< global tokens
  std::int64_t first_row = 0;         ///< the row of the tensors that holds the first token: a rank-local row; for the
                                      ///< whole pack a global token (0)
  DeviceSegments documents;           ///< the documents that have tokens in the chunk, in chunk rows
  std::int64_t longest_document = 0;  ///< tokens of the longest of these, tokens outside the chunk included

  SegmentsView segments() const { return documents.view(); }
  /// Chunk rows at which the documents begin; the first may be negative, the last may be after the chunk's end.
  std::span<const std::int64_t> cu_seqlens() const { return documents.cu_seqlens(); }
  /// The chunk's rows of one of those tensors; an absent view stays absent.
  TensorView rows(TensorView x) const { return rows_of(x, {first_row, first_row + tokens.size()}); }
};

/// How one pack is distributed over the ranks of a context group, as one of the ranks sees it, with all plans that its
/// operators need. It is made once per pack and used by every layer. The part that kernels read is in the memory of
/// `stream`'s device. Local tensors hold the rank's chunks one after the other.
class Sharding {
 public:
  /// Throws Error(usage) unless layout and segments have the same number of tokens and `rank` is in the layout.
  Sharding(ShardLayout layout, Segments segments, int rank, const Stream& stream = Stream());
  Sharding(const Sharding&) = delete;  // plans and chunks are passed on by reference
  Sharding& operator=(const Sharding&) = delete;

  const ShardLayout& layout() const { return layout_; }
  const Segments& segments() const { return segments_; }
  int rank() const { return rank_; }
  /// Throws Error(internal) unless this is the sharding of rank `rank` of `ranks`.
  void ensure_rank(int rank, int ranks) const;
  std::span<const Chunk> chunks() const { return chunks_; }  ///< this rank's, ascending
  std::int64_t local_tokens() const { return layout_.local_tokens(rank_); }

  /// How many layers with a carried state a pass runs one after the other while all exchanges move data in one
  /// direction only (halos and states, rightwards in the forward pass). Over these a rank can stay behind the rank
  /// before it.
  int one_way_layers() const { return one_way_layers_; }
  void set_one_way_layers(int layers) { one_way_layers_ = layers; }

  /// Chunk rows [begin, end) of one of this rank's chunks.
  const Chunk& sub_chunk(const Chunk& chunk, std::int64_t begin, std::int64_t end) const;
  /// All tokens, for tensors [T, …] (strategies that hold all tokens of some channels).
  const Chunk& whole_pack() const;

  const HaloPlan& halo_plan(std::int64_t reach) const;
  const CarryPlan& carry_plan() const { return carry_plan_; }
  const SpanPlan& span_plan() const;  ///< contiguous layout only

 private:
  Chunk make_chunk(int index, Range tokens, std::int64_t first_row) const;

  ShardLayout layout_;
  Segments segments_;
  int rank_;
  Stream stream_;
  int one_way_layers_ = 1;
  std::vector<Chunk> chunks_;
  CarryPlan carry_plan_;
  // Made at the first request. They need no lock: every rank has its own Sharding, which only one thread uses.
  mutable std::map<std::int64_t, HaloPlan> halo_plans_;  // by reach
  mutable std::optional<SpanPlan> span_plan_;
  mutable std::map<std::pair<std::int64_t, std::int64_t>, Chunk> sub_chunks_;  // by tokens
  mutable std::optional<Chunk> whole_pack_;
};

}  // namespace causeway

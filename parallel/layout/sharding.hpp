#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"
#include "parallel/layout/exchange_plan.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "parallel/layout/spanning.hpp"

namespace causeway {

/// Those rows of a tensor; an absent view stays absent.
inline TensorView rows_of(TensorView x, Range rows) { return x.present() ? x.slice_rows(rows.begin, rows.size()) : x; }

/// A run of consecutive tokens of the pack, as its rows stand in some tensors.
struct Chunk {
  int number = 0;                     ///< in the layout, of one of the rank's own
  Range tokens;                       ///< of the pack
  std::int64_t offset = 0;            ///< its first row in those tensors: the rank's local ones, for one of its own
  DeviceSegments documents;           ///< it touches, in its own coordinates
  std::int64_t longest_document = 0;  ///< of these, with its tokens outside the run
  SegmentsView segments() const { return documents.view(); }
  std::span<const std::int64_t> cu_seqlens() const { return documents.cu_seqlens(); }
  /// This chunk's rows of one of those tensors; an absent view stays absent.
  TensorView rows(TensorView local) const { return rows_of(local, {offset, offset + tokens.size()}); }
};

/// How one pack lies over the ranks of a context group, as one of them sees it, with every plan its operators ask for.
/// Made once a pack, used by every layer; what kernels read of it lies on `stream`'s device. Local tensors hold the
/// rank's chunks one after the other.
class Sharding {
 public:
  Sharding(ShardLayout layout, Segments segments, int rank, const Stream& stream = Stream());
  Sharding(const Sharding&) = delete;  // views of it are about
  Sharding& operator=(const Sharding&) = delete;

  const ShardLayout& layout() const { return layout_; }
  const Segments& segments() const { return segments_; }
  int rank() const { return rank_; }
  /// Whoever exchanges by it is that rank of as many: our defect otherwise.
  void ensure_of(int rank, int ranks) const;
  std::span<const Chunk> chunks() const { return chunks_; }
  std::int64_t local_tokens() const { return layout_.local_tokens(rank_); }

  /// Part of one of this rank's chunks: rows [begin, end) of it.
  const Chunk& part(const Chunk& of, std::int64_t begin, std::int64_t end) const;
  /// The whole pack, as strategies see it that hold all tokens of some channels.
  const Chunk& whole() const;

  const HaloPlan& halo(std::int64_t reach) const;
  const CarryPlan& carry() const { return carry_; }
  const SpanPlan& spans() const;  ///< contiguous layout only

 private:
  Chunk run_of(int number, Range tokens, std::int64_t offset) const;

  ShardLayout layout_;
  Segments segments_;
  int rank_;
  Stream stream_;
  std::vector<Chunk> chunks_;
  CarryPlan carry_;
  // Made when first asked for; one rank, one thread.
  mutable std::map<std::int64_t, HaloPlan> halos_;
  mutable std::optional<SpanPlan> spans_;
  mutable std::map<std::pair<std::int64_t, std::int64_t>, Chunk> runs_;
};

}  // namespace causeway

#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "kernels/segments.hpp"
#include "kernels/tensor.hpp"
#include "parallel/exchange_plan.hpp"
#include "parallel/shard_layout.hpp"

namespace causeway {

/// One run of consecutive tokens that a rank holds.
struct Chunk {
  int number = 0;            ///< in the layout
  Range tokens;              ///< of the pack
  std::int64_t offset = 0;   ///< its first row in this rank's local tensors
  std::vector<std::int64_t> cu_seqlens;  ///< the documents it touches, in its own coordinates
  SegmentsView segments() const { return segments_view(cu_seqlens, tokens.size()); }
  /// This chunk's rows of one of the rank's local tensors; an absent view stays absent.
  TensorView rows(TensorView local) const { return local.present() ? local.slice_rows(offset, tokens.size()) : local; }
};

/// How one pack lies over the ranks of a context group, as one of them sees it, with every plan its operators ask for. Made once a pack, used by
/// every layer. Local tensors hold the rank's chunks one after the other.
class Sharding {
 public:
  Sharding(ShardLayout layout, Segments segments, int rank);
  Sharding(const Sharding&) = delete;  // views of it are about
  Sharding& operator=(const Sharding&) = delete;

  const ShardLayout& layout() const { return layout_; }
  const Segments& segments() const { return segments_; }
  int rank() const { return rank_; }
  std::span<const Chunk> chunks() const { return chunks_; }
  std::int64_t local_tokens() const { return layout_.local_tokens(rank_); }

  const HaloPlan& halo(std::int64_t reach) const;
  const CarryPlan& carry() const { return carry_; }

 private:
  ShardLayout layout_;
  Segments segments_;
  int rank_;
  std::vector<Chunk> chunks_;
  CarryPlan carry_;
  mutable std::map<std::int64_t, HaloPlan> halos_;  // made when first asked for; one rank, one thread
};

}  // namespace causeway

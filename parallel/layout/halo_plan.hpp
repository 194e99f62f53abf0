#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/segments.hpp"
#include "parallel/layout/row_move.hpp"
#include "parallel/layout/shard_layout.hpp"

namespace causeway {

/// The rows that one rank sends and receives so that each chunk has the `reach` rows before it, as far as they belong
/// to the document of the chunk's first token. exchange/halo.hpp executes the plan.
///
/// A rank's halo tensor is [chunks·reach, D]. The i-th chunk of the rank (in the order of ShardLayout::chunks_of) has
/// rows [i·reach, (i+1)·reach); the last of them is the row just before the chunk. Every row comes directly from the
/// rank that holds it: from several ranks where shards are shorter than the reach.
struct HaloPlan {
  std::int64_t reach = 0;
  std::vector<RowMove> sends;     ///< of this rank, sorted by receiver, then row
  std::vector<RowMove> receives;  ///< of this rank, sorted by sender, then row
  // A move from a rank to itself (between the two middle chunks of zigzag) is in both lists.
};

/// A pure function: it communicates with no rank, and all ranks' plans match each other.
HaloPlan plan_halo(const ShardLayout& layout, const Segments& segments, std::int64_t reach, int rank);

}  // namespace causeway

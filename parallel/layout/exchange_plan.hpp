#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/segments.hpp"
#include "kernels/reorder.hpp"
#include "parallel/layout/shard_layout.hpp"

namespace causeway {

/// Pure functions of (layout, segments, reach): who needs which rows from whom. They make no call and are the same on
/// every rank.

/// Rows travelling between two ranks: `count` rows from the sender's local row `from` to row `to` of what the receiver
/// gathers them in (its halo, its equal shard of a document).
struct RowMove {
  int sender = 0, receiver = 0;
  RowRange rows;
  bool operator==(const RowMove&) const = default;
};

/// What every rank sends and receives so that each chunk sees the `reach` rows before it that belong to its first
/// token's document. A rank's halo tensor is [chunks·reach, D]: chunk i of the rank (in ShardLayout::chunks_of order)
/// owns rows [i·reach, (i+1)·reach), the row just before the chunk last. Rows come straight from whoever holds them,
/// over several ranks where shards are shorter than the reach.
struct HaloPlan {
  std::int64_t reach = 0;
  std::vector<RowMove>
      sends;  ///< of this rank, by receiver then row; sender == receiver (zigzag's middle) stands in both lists
  std::vector<RowMove> receives;  ///< of this rank, by sender then row
};
HaloPlan plan_halo(const ShardLayout& layout, const Segments& segments, std::int64_t reach, int rank);

/// How a recurrence's state crosses chunk edges, for every chunk of the pack (the same on all ranks). Empty chunks pass
/// on what reaches them.
struct CarryPlan {
  struct Edge {
    bool from_left = false;  ///< the document of the chunk's first token began before the chunk: it takes a state
    bool to_right = false;   ///< its last token's document goes on after the chunk: it gives a state
    bool whole =
        false;  ///< one document spans all of the chunk: what comes in contributes to what goes out (decay is not cut)
  };
  std::vector<Edge> chunks;  ///< by chunk number
};
CarryPlan plan_carry(const ShardLayout& layout, const Segments& segments);

}  // namespace causeway

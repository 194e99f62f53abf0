#pragma once

#include <vector>

#include "kernels/core/segments.hpp"
#include "parallel/layout/shard_layout.hpp"

namespace causeway {

/// Which chunk edges the state of a recurrence crosses: an edge where a document continues. The same on all ranks.
/// exchange/carry.hpp executes the plan.
struct CarryPlan {
  /// Both edges of an empty chunk are at the same position: the chunk passes on the state that it receives.
  struct ChunkEdges {
    bool from_left = false;     ///< the document of the chunk's first token begins before the chunk
    bool to_right = false;      ///< the document of the chunk's last token continues after the chunk
    bool one_document = false;  ///< from_left and to_right, and it is the same document: the incoming state
                                ///< contributes to the outgoing one
  };
  std::vector<ChunkEdges> chunks;  ///< by chunk index
};

/// A pure function: it communicates with no rank.
CarryPlan plan_carry(const ShardLayout& layout, const Segments& segments);

}  // namespace causeway

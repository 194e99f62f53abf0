#pragma once

#include <vector>

#include "parallel/layout/sharding.hpp"

namespace causeway::attention {

/// Consecutive queries of a rank and consecutive keys, of which the queries see at least one.
struct QueryKeyBlock {
  const Chunk& queries;
  Range keys;            ///< global tokens
  std::int64_t key_row;  ///< rank-local row, on the owner of the keys, of the first key
  /// Whether the keys are those of the queries' own chunk. This block is first in the order of summation and contains
  /// every query of the chunk: it initialises the result, the others add to it.
  bool own_keys() const { return keys == queries.tokens; }
};

/// The blocks of this rank's queries with the keys of rank `owner` (which may be this rank), in the order in which
/// their results are summed. Keys after all queries, or in documents that end before them, are left out. If the keys
/// are in an earlier chunk, only the queries of the chunk's first document are in the block: others cannot see them. A
/// pure function: it communicates with no rank.
std::vector<QueryKeyBlock> query_key_blocks(const Sharding& sharding, int owner);

/// The number of pairs of a query in `tokens` and a key that it sees: Σ (document row of the query + 1). In float64,
/// because a document of 4G tokens has more pairs than an integer of 64 bits holds.
double visible_pairs(const Segments& segments, const Range& tokens);

/// visible_pairs of the rank with the most.
double most_visible_pairs(const Sharding& sharding);

}  // namespace causeway::attention

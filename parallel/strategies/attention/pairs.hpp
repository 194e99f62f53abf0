#pragma once

#include <vector>

#include "parallel/layout/sharding.hpp"

namespace causeway::attention {

/// A run of a rank's queries and a run of keys of which they see some.
struct Pair {
  const Chunk& queries;
  Range keys;            ///< tokens of the pack
  std::int64_t key_row;  ///< of the first key among its owner's rows
  /// The pair's own keys come before any other's, and every query is in it: where results begin to add up.
  bool first() const { return keys == queries.tokens; }
};

/// The pairs between this rank's queries and the keys of `owner`, which may be itself, in the order in which their
/// results add up. What lies wholly in the future or in documents that end before is left out, and so are the queries
/// of later documents than the first where the keys stand before the run. Pure: makes no call, and no message depends
/// on it.
std::vector<Pair> pairs_with(const Sharding& sharding, int owner);

/// How many pairs of a query among `tokens` and a key are seen: Σ of each one's place in its document, from 1.
std::int64_t seen_pairs(const Segments& segments, const Range& tokens);

/// seen_pairs of the rank that has most.
std::int64_t busiest_pairs(const Sharding& sharding);

}  // namespace causeway::attention

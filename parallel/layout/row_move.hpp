#pragma once

#include "kernels/reorder.hpp"

namespace causeway {

/// Rows that one rank sends to another: `count` rows from the sender's rank-local row `from` on, to row `to` of the
/// tensor in which the receiver collects them (its halo, or its equal shard of a document).
struct RowMove {
  int sender = 0, receiver = 0;
  RowRange rows;
  bool operator==(const RowMove&) const = default;
};

}  // namespace causeway

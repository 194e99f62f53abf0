#pragma once

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// data × context ranks: rank = data_index · context_size + context_index. The ranks of one context group hold the
/// shards of one pack; groups work on different packs.
struct Mesh {
  /// Throws AgreedError(usage) unless data·context_ranks == all.size(). Either may be 0: "whatever is left" (both 0:
  /// all ranks share one context).
  Mesh(Communicator all, int data, int context_ranks);

  Communicator world;    ///< every rank
  Communicator context;  ///< the ranks that share this rank's pack
  int data_size = 1, data_index = 0;
};

}  // namespace causeway

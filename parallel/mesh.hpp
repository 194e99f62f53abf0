#pragma once

#include "parallel/communicator.hpp"

namespace causeway {

/// data × context ranks: rank = data_index · context_size + context_index. The ranks of one context group hold the shards of one pack; groups
/// work on different packs.
struct Mesh {
  /// Throws Error(usage) unless data·context == world.size(). Either may be 0: "whatever is left" (both 0: all ranks share one context).
  Mesh(Communicator world, int data, int context);

  Communicator world;    ///< every rank
  Communicator context;  ///< the ranks that share this rank's pack
  int data_size = 1, data_index = 0;
};

}  // namespace causeway

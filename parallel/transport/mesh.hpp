#pragma once

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// The ranks as a mesh of data × context: rank = data_index · context_size + context_index. The ranks of one context
/// group hold the shards of one pack; different groups work on different packs (data parallelism).
struct Mesh {
  /// Either extent may be 0: then it is all.size() divided by the other (both 0: all ranks are one context group).
  /// Throws AgreedError(usage) unless data·context_ranks == all.size().
  Mesh(Communicator all, int data, int context_ranks);
  Traffic traffic() const;  ///< of this rank over both communicators

  Communicator world;    ///< every rank
  Communicator context;  ///< the ranks that share this rank's pack
  int data_size = 1;     ///< number of context groups
  int data_index = 0;    ///< which of them this rank is in
};

}  // namespace causeway

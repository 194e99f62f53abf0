#pragma once

#include <optional>
#include <vector>

#include "src/plan/prediction.hpp"

namespace causeway {

/// What is given; the search tries all values of what is not.
struct SearchSpace {
  int ranks = 1;
  std::optional<int> data, context;  ///< whose product is then the number of ranks
  std::optional<ShardLevel> shard;
  std::optional<bool> recompute;
  std::optional<std::string> offload;  ///< as --offload has it
};

/// A mesh counts as equally fast from this part of the fastest one's tokens a second: predictions are not more exact.
inline constexpr double equally_fast = 0.99;

struct SearchResult {
  /// The fastest mesh that fits, or one that is as fast with fewer settings; if none fits, the one that needs the least
  /// of what there is.
  Prediction best;
  std::vector<Prediction> runners_up;  ///< the fastest other ones that fit, at most one for each data x context first
  std::vector<std::string> warnings;   ///< for people: what does not fit, and why
  std::int64_t tried = 0, fitting = 0;
};

/// Tries every mesh with `ranks` ranks, every sharding level, recomputation of 1, 2, 4, … blocks and offloading that
/// the space leaves open. It chooses among meshes that are equally fast by the least offloading, then
/// recomputation, then sharding. The same arguments give the same result. Throws Error(usage) if what is given admits
/// no mesh.
SearchResult search_mesh(const PlannedTraining& training, const SearchSpace& space, const Profile& profile,
                         std::size_t most_runners_up);

}  // namespace causeway

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "parallel/layout/shard_layout.hpp"

namespace causeway {

/// The groups of parameters whose weights one step of a pass uses.
using PassStep = std::vector<std::size_t>;

/// Group 0 is the embedding, b + 1 is block b, and the last one the head: the final norm, and the output head if it has
/// weights of its own.
constexpr std::size_t embedding_group = 0;
constexpr std::size_t group_of_block(std::size_t block) { return block + 1; }

/// The order in which a pass uses the weights of the groups, so that each group can be gathered one step ahead.
struct PassPlan {
  std::vector<PassStep> steps;
  Range kept;  ///< groups that are kept until the pass needs them no more, instead of being gathered again

  bool keeps(std::size_t group) const {
    const auto number = static_cast<std::int64_t>(group);
    return kept.begin <= number && number < kept.end;
  }
  bool operator==(const PassPlan&) const = default;
};

/// How a model uses its groups of parameters.
struct PassShape {
  std::size_t blocks = 0;
  bool tied_head = false;  ///< the head uses the embedding, too
  bool recompute = false;
  std::int64_t recompute_blocks = 1;  ///< see Model::Options
  std::int64_t keep_blocks = 0;       ///< the last blocks whose weights are kept for the backward pass

  std::size_t head() const { return group_of_block(blocks); }
  /// The groups that the head uses.
  PassStep head_step() const { return tied_head ? PassStep{head(), embedding_group} : PassStep{head()}; }
};

PassPlan plan_of_forward(const PassShape& shape);
/// Forward and backward. With recomputation the backward pass runs blocks again, as Model::recompute_block does.
PassPlan plan_of_training(const PassShape& shape);

}  // namespace causeway

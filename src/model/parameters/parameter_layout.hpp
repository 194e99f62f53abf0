#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "kernels/core/tensor.hpp"
#include "parallel/layout/shard_layout.hpp"
#include "src/model/parameters/fp8_level.hpp"
#include "src/model/parameters/initial_values.hpp"

namespace causeway {

/// A parameter as a layer declares it: its name in checkpoints, its shape and its initial values.
struct ParameterSpec {
  std::string name;
  Shape shape;
  bool wide = false;     ///< kept in the accumulator type: A_log, D, norms, Δ's bias
  bool decay = false;    ///< subject to weight decay
  bool frozen = false;   ///< stored in the checkpoint but never trained: no gradient, no optimizer state
  bool product = false;  ///< its gradient is a sum of matrix products: layers add to it by add_product() (dense/)
  /// The first level of --fp8 at which products with it are in FP8; off: never.
  Fp8Level fp8 = Fp8Level::off;
  InitialValues initial;
};

/// One named tensor: views of its weight and gradient wherever they are now.
struct Parameter {
  ParameterSpec spec;
  std::size_t arena = 0, group = 0;
  Range in_part;        ///< its elements in its group's part of the arena
  Range flat;           ///< its elements in the arena
  TensorView weight;    ///< compute type, or the accumulator type if wide; without data while only shards exist
  TensorView gradient;  ///< accumulator type; layers add to it; absent if frozen, or while it is not needed
  bool fp8 = false;     ///< products with it have operands in FP8
  /// The gradient is zero but not written yet: the next product overwrites it.
  mutable bool gradient_unwritten = false;
};

/// All parameters with the same dtype, weight decay and frozen, one group of parameters after the other in a flat
/// buffer. Each group's part is padded with zeros so that it is cut into one equal shard for each rank. A rank's shard
/// of the arena has its shards of all parts, one after the other.
struct ParameterArena {
  struct Part {
    std::int64_t elements = 0;  ///< without padding
    Range flat;                 ///< with padding
  };
  DType dtype = DType::f32;
  bool decay = false, frozen = false;
  std::int64_t elements = 0;  ///< without padding
  std::vector<Part> parts;    ///< of each group; can be empty
  Tensor weights;             ///< [padded], or this rank's shard
  Tensor gradients;           ///< [padded], accumulator type; absent if frozen or if only shards are kept
  Tensor sums;                ///< this rank's shard of the summed gradients; absent if `gradients` has room for it

  std::int64_t padded() const { return parts.empty() ? 0 : parts.back().flat.end; }
};

/// This rank's elements of a group's part of an arena, or of the whole arena where there is only one rank.
struct ShardPiece {
  std::size_t arena = 0;
  Range flat;   ///< in the arena
  Range shard;  ///< in this rank's shard of the arena
};

/// Where the elements of all parameters are, and which of them this rank owns. No memory is needed to make one.
struct ParameterLayout {
  std::deque<Parameter> parameters;  ///< group by group
  std::vector<ParameterArena> arenas;
  std::vector<Range> groups;  ///< the numbers of each group's parameters
  int shards = 1, rank = 0;

  /// Sets `flat` of all parts and parameters for this number of shards.
  void place();
  /// Of a part with so many elements, with padding.
  static std::int64_t padded_elements(std::int64_t elements, std::int64_t shards);
  /// This rank's elements of a group's part of an arena.
  ShardPiece piece(std::size_t arena, std::size_t group) const;
  /// All pieces that have elements, arena by arena. With one rank: each arena is one piece.
  std::vector<ShardPiece> pieces() const;
};

}  // namespace causeway

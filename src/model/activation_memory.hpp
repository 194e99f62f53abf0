#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/dtype.hpp"
#include "src/model/model_options.hpp"
#include "src/model/parameters/fp8_level.hpp"
#include "src/runtime/chosen_strategies.hpp"

namespace causeway {

/// What decides how much memory the activations of a training step take on a rank.
struct ActivationShape {
  std::int64_t tokens = 0;        ///< of a pack that the rank holds
  std::int64_t context_size = 1;  ///< ranks that share the pack
  DType dtype = DType::f32;
  Device device = Device::cpu;
  bool recompute = false;
  std::int64_t recompute_blocks = 1;
  std::int64_t block_tile = 0;  ///< as Model::Options::block_tile
  Fp8Level fp8 = Fp8Level::off;
  bool offload = false;                       ///< with recompute: as Model::Options::offload_activations
  StrategyNames strategies = {};              ///< of the operators; one that is missing: the first row of its table
  std::vector<std::int64_t> cu_seqlens = {};  ///< where the pack's documents begin, and its end; empty: one document
};

/// Bytes of a rank.
struct ActivationBytes {
  double kept = 0;     ///< tensors that the forward pass keeps for the backward pass, of all blocks
  double working = 0;  ///< the most that exists at one time beside them
  double total() const { return kept + working; }
  double at_head = 0;               ///< all that exists in the head,
  std::vector<double> at_backward;  ///< at most in the backward pass of each block,
  double at_end = 0;                ///< and when that of the embedding has ended
  double offloaded = 0;             ///< in host memory, all the time; not counted above
};

/// Estimates the activations of one pack's forward and backward pass without a tensor being made. The formulas count
/// the tensors of Model::train and of each sublayer's forward and backward, and the workspace of attention, as for one
/// document; buffers that do not grow with the tokens, and halos, are left out. Tests compare them with passes
/// (tests/src/model/test_recomputation.cpp) and runs (tests/src/train/test_dry_run.cpp).
ActivationBytes activation_bytes(const ModelOptions& model, const ActivationShape& shape);

}  // namespace causeway

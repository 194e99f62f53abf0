#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "src/model/model.hpp"
#include "src/runtime/runtime.hpp"

namespace causeway {

/// The memory that a training takes on a rank, in bytes, at the moment of a step when most is taken.
struct RankMemory {
  double weights = 0, gradients = 0, optimizer = 0;  ///< exact: what a rank holds all the time
  double gathered = 0;                               ///< exact: whole weights of the blocks in use
  double block_gradients = 0, exchange = 0;          ///< exact: whole gradients of blocks, and those received
  double activations = 0, workspace = 0;             ///< estimated: kept for the backward pass, and beside it
  double host_optimizer = 0, host_activations = 0;   ///< offloaded from a GPU
  bool in_head = false;                              ///< the moment: in the head, not in a block's backward pass
  double checkpoint = 0;                             ///< the copy that is written while training continues
  double program = 0;                                ///< this process now: libraries, index of the data

  double state() const { return weights + gradients + optimizer; }
  /// What blocks take whose weights or gradients are sharded.
  double of_blocks() const { return gathered + block_gradients + exchange; }
  /// What metrics.jsonl reports as memory_bytes.
  double tensors() const { return state() + of_blocks() + activations + workspace; }
  /// In host memory.
  double on_host(Device device) const {
    return checkpoint + program + host_optimizer + host_activations + (device == Device::cpu ? tensors() : 0);
  }
  /// In the memory of the device that computes.
  double on_device(Device device) const { return tensors() + (device == Device::cpu ? checkpoint + program : 0); }
};

/// The sizes that decide it, beside the model's.
struct MemoryShape {
  std::int64_t pack_tokens = 0;
  int ranks = 1, context_size = 1;  ///< all, and those that share a pack
  Device device = Device::cpu;
  ParameterMemory parameters = {};
  StrategyNames strategies = {};              ///< of the operators; one that is missing: the first row of its table
  std::vector<std::int64_t> cu_seqlens = {};  ///< as ActivationShape::cu_seqlens
};
/// Estimates it without any rank that runs. No tensor is made.
RankMemory memory_of_rank(const Model& model, const MemoryShape& shape);
/// Estimates it for packs of `pack_tokens`, with the strategies that `runtime` has. No tensor is made.
RankMemory memory_of_rank(const Model& model, const Runtime& runtime, std::int64_t pack_tokens,
                          const ParameterMemory& parameters = {}, std::vector<std::int64_t> cu_seqlens = {});

/// Memory that is available for this run's ranks.
struct AvailableMemory {
  double bytes = 0;
  int ranks = 1;      ///< that share it
  std::string where;  ///< "host a", "the GPU of rank 0"
};
/// The least memory a rank of all hosts (`where` is the CPU), or of all GPUs. No value where it is not known.
/// Collective; the same on every rank.
std::optional<AvailableMemory> available_memory(Runtime& runtime, Device where);
/// Throws AgreedError that says what is offloaded and what there is, if the host memory of some rank is less.
/// Collective.
void require_host_memory(Runtime& runtime, const RankMemory& memory);

/// Whether a rank's bytes fit, and the figures.
std::string fit_text(double rank, const std::optional<AvailableMemory>& available,
                     std::optional<double> with_recompute = {});

/// The lines of --dry-run: what a rank takes, what there is, and whether it fits. `with_recompute`: the bytes a rank
/// takes with --recompute, where that was not asked for.
std::string memory_text(const RankMemory& memory, Device device, const std::optional<AvailableMemory>& available,
                        std::optional<double> with_recompute);

}  // namespace causeway

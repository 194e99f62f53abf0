#pragma once

#include <functional>
#include <span>
#include <vector>

#include "parallel/strategy.hpp"

namespace causeway {

/// The slices of all_to_all_pipelined. With P slices 1/P of the communication is exposed.
inline constexpr int pipeline_slices = 16;

/// An operator whose channels, or groups of channels, are independent of each other. all_to_all sends every token of
/// some channels to each rank, runs the operator there on the whole pack, and sends its results back.
struct ChannelOperator {
  std::int64_t channels = 0, groups = 1;
  std::vector<TensorView> in;   ///< inputs, [local tokens, channels]: this rank's rows
  std::vector<TensorView> out;  ///< outputs, of the same shape; written
  /// Computes channels `mine` of the whole pack: in and out are [T, mine.size()]. It may move tensors out of `in`, to
  /// keep them for backward.
  std::function<void(Range mine, std::vector<Tensor>& in, std::span<const TensorView> out)> run;
  /// Work on this rank's rows, for a range of channels at a time, so that it also overlaps with communication:
  /// `prepare` writes these columns of `in` before they are sent, `finish` reads these columns of `out` after they
  /// arrive. Optional.
  std::function<void(Range columns)> prepare = {}, finish = {};
};

/// all_to_all; with several slices all_to_all_pipelined: while one slice is computed, the inputs of the next two and
/// the results of the previous one are in flight. (One prefetched slice would be enough if all ranks always had the
/// same speed; with few slices only one is prefetched.) Does nothing on a rank without channels.
void run_all_to_all(const StrategyContext& context, const ChannelOperator& work, int slices);

/// The scope in which `run` keeps tensors of a slice's channels, or groups of channels, for backward.
inline Saved& slice_scope(Saved& saved, Range mine) {
  return saved.scope(fmt::format("{} to {}", mine.begin, mine.end));
}

/// The groups that consist of channels `mine`, which must be whole groups.
inline Range groups_of(Range mine, std::int64_t channels, std::int64_t groups) {
  return {mine.begin * groups / channels, mine.end * groups / channels};
}

/// What an operator sends, receives and computes, for the cost; all tensors have the same number of channels.
struct AllToAllWork {
  std::int64_t channels = 0, groups = 1;
  DType dtype = DType::f32;
  TimedKernel kernel;             ///< of the forward pass
  double elements = 0;            ///< of the kernel, per channel
  bool vectors = true;            ///< it computes whole vectors of channels, also if not all lanes are used
  int in = 1, out = 1;            ///< tensors in the forward pass
  int back_in = 1, back_out = 1;  ///< in the backward pass
  int gates = 0, back_gates = 0;  ///< reads and writes of the rank's own rows by what stands outside of the kernel
  std::int64_t gathered = 0;      ///< elements per token that are gathered on every rank in addition
};
/// A tensor costs a rank (T/N)·D·s·(N-1)/N bytes if tokens and groups are divisible by N.
PassCosts all_to_all_costs(const Sharding& sharding, const AllToAllWork& work, int slices);

}  // namespace causeway

#pragma once

#include <functional>
#include <span>
#include <vector>

#include "parallel/strategy.hpp"

namespace causeway {

/// Parts of a rank's channels of which one is in flight while another is computed: with P of them, 1/P of the
/// communication is exposed.
inline constexpr int pipeline_slices = 16;

/// An operator whose channels, or groups of them, do not meet: all_to_all brings every token of some channels to each
/// rank, the operator runs there on the whole pack, and its results go back.
struct ChannelWork {
  std::int64_t channels = 0, groups = 1;
  std::vector<TensorView> in;   ///< [local tokens, channels], this rank's rows, read
  std::vector<TensorView> out;  ///< likewise, written
  /// On channels `mine` of the whole pack: in and out are [T, mine.size()]. Whoever wants the inputs again later may
  /// keep them.
  std::function<void(Range mine, std::vector<Tensor>& in, std::span<const TensorView> out)> run;
  /// What stays on this rank's rows, a range of channels at a time so that it too runs while others are in flight:
  /// writes those columns of `in` before they are sent, reads those of `out` once they are there. Or nothing.
  std::function<void(Range columns)> prepare = {}, finish = {};
};

/// all_to_all, and all_to_all_pipelined with several slices: while one is computed, the next two's inputs and the last
/// one's results are in flight (one would do, were all ranks equally fast all the time, and has to do where there are
/// few channels to slice). A rank may have no channel; then nothing runs.
void by_channels(const StrategyContext& context, const ChannelWork& work, int slices);

/// Where `run` keeps tensors of a slice's channels, or groups of channels, for backward.
inline Saved& slice_scope(Saved& saved, Range mine) {
  return saved.scope(fmt::format("{} to {}", mine.begin, mine.end));
}

/// The groups that channels `mine`, whole groups of them, make up.
inline Range groups_of(Range mine, std::int64_t channels, std::int64_t groups) {
  return {mine.begin * groups / channels, mine.end * groups / channels};
}

/// The tensors an operator takes in and gives back, all of one width.
struct ChannelCounts {
  std::int64_t channels = 0, groups = 1;
  DType dtype = DType::f32;
  int in = 1, out = 1;
  bool lanes = true;          ///< kernels compute a vector of channels at a time, full or not
  std::int64_t gathered = 0;  ///< numbers a token that every rank gets besides
};
/// A tensor costs a rank (L/N)·D·s·(N-1)/N bytes where tokens and groups divide. `operations_a_token` are a channel's.
Cost by_channels_cost(const Sharding& sharding, const ChannelCounts& of, int slices, double operations_a_token);

}  // namespace causeway

#include "parallel/strategies/all_to_all_pipeline.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#include "kernels/core/integer.hpp"
#include "parallel/exchange/reshard.hpp"

namespace causeway {
namespace {

/// One slice of the channels on its way through the pipeline:
/// start_fetch → run → start_return → finish.
struct Slice {
  ChannelPartition partition;
  Range mine;
  std::vector<Tensor> in, out;
  Pending in_flight;  // of `in`, later of `out`

  Slice(const StrategyContext& context, const ChannelOperator& work, int slices, int slice)
      : partition{.channels = work.channels, .groups = work.groups, .slices = slices, .slice = slice},
        mine(partition.share(context.ranks.size(), context.ranks.rank())) {}

  void start_fetch(const StrategyContext& context, const ChannelOperator& work) {
    for_each_share(context, work.prepare);
    in = allocate(context, work.in);
    in_flight =
        start_tokens_to_channels(context.sharding, partition, paired(work.in, in), context.ranks, context.stream);
  }
  void run(const StrategyContext& context, const ChannelOperator& work) {
    in_flight.wait();
    out = allocate(context, work.out);
    const std::vector<TensorView> views(out.begin(), out.end());
    if (mine.size() > 0 && context.sharding.layout().tokens() > 0) work.run(mine, in, views);
    in.clear();
  }
  void start_return(const StrategyContext& context, const ChannelOperator& work) {
    in_flight =
        start_channels_to_tokens(context.sharding, partition, paired(work.out, out), context.ranks, context.stream);
  }
  void finish(const StrategyContext& context, const ChannelOperator& work) {
    in_flight.wait();
    out.clear();
    for_each_share(context, work.finish);
  }

 private:
  /// Tensors [T, this slice's channels of this rank], one for each of `like`.
  std::vector<Tensor> allocate(const StrategyContext& context, const std::vector<TensorView>& like) const {
    std::vector<Tensor> whole;
    for (const TensorView local : like)
      whole.emplace_back(context.stream, local.dtype, Shape{context.sharding.layout().tokens(), mine.size()});
    return whole;
  }
  static std::vector<LocalAndWhole> paired(const std::vector<TensorView>& local, const std::vector<Tensor>& whole) {
    std::vector<LocalAndWhole> pairs;
    for (std::size_t i = 0; i < local.size(); ++i) pairs.push_back({local[i], whole[i]});
    return pairs;
  }
  /// Calls work(columns) for the channels that this slice has on each rank.
  void for_each_share(const StrategyContext& context, const std::function<void(Range)>& work) const {
    if (work == nullptr || context.sharding.local_tokens() == 0) return;
    for (int rank = 0; rank < context.ranks.size(); ++rank)
      if (const Range columns = partition.share(context.ranks.size(), rank); columns.size() > 0) work(columns);
  }
};

/// At most as many slices as the rank with most groups has groups: more would be empty on all ranks.
int useful_slices(int slices, std::int64_t groups, int ranks) {
  return static_cast<int>(std::clamp<std::int64_t>(ceil_div(groups, ranks), 1, slices));
}

/// The channels that a kernel computes: whole vectors of 64 bytes, each lane a channel.
std::int64_t padded_to_vectors(std::int64_t channels, DType dtype) {
  const std::int64_t lanes = 64 / size_of(accumulator_of(dtype));
  return round_up(channels, lanes);
}

/// Adds the messages of a rank with channels in every slice: to each rank with channels its part of an input, to every
/// rank its tokens of an output, chunk by chunk. It receives more of an input than it sends if not all have channels.
void add_messages(Cost& cost, const ShardLayout& layout, const AllToAllWork& work, int slices, int in, int out) {
  std::int64_t most = 0, owners = 0;  // slices in which a rank has channels: the rank with most; all ranks together
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    std::int64_t own = 0;
    for (int slice = 0; slice < slices; ++slice) {
      const ChannelPartition part{.channels = work.channels, .groups = work.groups, .slices = slices, .slice = slice};
      if (part.share(layout.ranks(), rank).size() > 0) ++own;
    }
    owners += own;
    most = std::max(most, own);
  }
  const std::int64_t chunks = layout.chunk_count() / layout.ranks(), others = layout.ranks() - 1;
  cost.messages = chunks * (in * (owners - most) + out * most * others);
  cost.busiest_messages = chunks * (in + out) * most * others;
}

}  // namespace

void run_all_to_all(const StrategyContext& context, const ChannelOperator& work, int wanted_slices) {
  const int slices = useful_slices(wanted_slices, work.groups, context.ranks.size());
  const std::ptrdiff_t prefetched = slices < pipeline_slices ? 1 : 2;  // few slices are large: prefetch only one
  std::deque<Slice> arriving;
  std::optional<Slice> leaving;
  for (int step = 0, fetched = 0; step < slices; ++step) {
    for (; fetched < slices && std::ssize(arriving) <= prefetched; ++fetched)
      arriving.emplace_back(context, work, slices, fetched).start_fetch(context, work);
    Slice current = std::move(arriving.front());
    arriving.pop_front();
    current.run(context, work);
    current.start_return(context, work);
    if (leaving) leaving->finish(context, work);
    leaving.emplace(std::move(current));
  }
  if (leaving) leaving->finish(context, work);
}

PassCosts all_to_all_costs(const Sharding& sharding, const AllToAllWork& work, int wanted_slices) {
  const ShardLayout& layout = sharding.layout();
  const int ranks = layout.ranks(), slices = useful_slices(wanted_slices, work.groups, ranks);
  const auto pass = [&](int in, int out, int gates) {
    Cost cost{.copied_bytes = 0, .to_all = true};
    double elements = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const std::int64_t
          mine = ChannelPartition{.channels = work.channels, .groups = work.groups}.share(ranks, rank).size(),
          tokens = layout.local_tokens(rank);
      const std::int64_t computed =
          work.vectors ? slices * padded_to_vectors(ceil_div(mine, slices), work.dtype) : mine;
      elements = std::max(elements, work.elements * static_cast<double>(computed));
      const std::int64_t own_tokens = tokens * (work.channels - mine), own_channels = (layout.tokens() - tokens) * mine,
                         gathered = work.gathered * tokens * (ranks - 1);
      cost.bytes_sent =
          std::max(cost.bytes_sent, (in * own_tokens + out * own_channels + gathered) * size_of(work.dtype));
      cost.busiest_bytes = std::max(cost.busiest_bytes,
                                    ((in + out) * std::max(own_tokens, own_channels) + gathered) * size_of(work.dtype));
      // Every row that is sent, received or stays is copied once; a few more accesses are gates.
      const double own_rows = static_cast<double>(tokens * work.channels * size_of(work.dtype));
      cost.copied_bytes = std::max(cost.copied_bytes, own_rows * (2 * (in + out) + gates));
    }
    cost.kernels.push_back({.kernel = work.kernel, .elements = elements, .calls = static_cast<double>(slices)});
    cost.copies = static_cast<double>(slices * (ranks * (in + out) + ceil_div(gates, 3)));
    if (ranks == 1) return cost;
    cost.rounds = slices == 1 ? 2 : slices + 1;
    add_messages(cost, layout, work, slices, in, out);
    cost.hidden = 1 - 1.0 / slices;
    return cost;
  };
  const Cost forward = pass(work.in, work.out, work.gates);
  return {
      .forward = forward, .backward = adjoint(pass(work.back_in, work.back_out, work.back_gates)), .repeated = forward};
}

}  // namespace causeway

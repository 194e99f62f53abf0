#include "parallel/strategies/by_channels.hpp"

#include <algorithm>
#include <deque>
#include <optional>

#include "kernels/core/integer.hpp"
#include "parallel/exchange/reshard.hpp"

namespace causeway {
namespace {

/// One slice of this rank's channels of the whole pack.
struct Slice {
  Dealing dealing;
  Range mine;
  std::vector<Tensor> in, out;
  Pending moving;  // in, then out

  Slice(const StrategyContext& context, const ChannelWork& work, int slices, int slice)
      : dealing{.channels = work.channels, .groups = work.groups, .slices = slices, .slice = slice},
        mine(dealing.share(context.ranks.size(), context.ranks.rank())) {}

  void fetch(const StrategyContext& context, const ChannelWork& work) {
    on_every_share(context, work.prepare);
    in = rooms(context, work.in);
    moving = start_tokens_to_channels(context.sharding, dealing, paired(work.in, in), context.ranks, context.stream);
  }
  void run(const StrategyContext& context, const ChannelWork& work) {
    moving.wait();
    out = rooms(context, work.out);
    const std::vector<TensorView> views(out.begin(), out.end());
    if (mine.size() > 0 && context.sharding.layout().tokens() > 0) work.run(mine, in, views);
    in.clear();
  }
  void give_back(const StrategyContext& context, const ChannelWork& work) {
    moving = start_channels_to_tokens(context.sharding, dealing, paired(work.out, out), context.ranks, context.stream);
  }
  void finish(const StrategyContext& context, const ChannelWork& work) {
    moving.wait();
    out.clear();
    on_every_share(context, work.finish);
  }

 private:
  std::vector<Tensor> rooms(const StrategyContext& context, const std::vector<TensorView>& like) const {
    std::vector<Tensor> rooms;
    for (const TensorView local : like)
      rooms.emplace_back(context.stream, local.dtype, Shape{context.sharding.layout().tokens(), mine.size()});
    return rooms;
  }
  static std::vector<LocalAndWhole> paired(const std::vector<TensorView>& local, const std::vector<Tensor>& whole) {
    std::vector<LocalAndWhole> pairs;
    for (std::size_t i = 0; i < local.size(); ++i) pairs.push_back({local[i], whole[i]});
    return pairs;
  }
  void on_every_share(const StrategyContext& context, const std::function<void(Range)>& work) const {
    if (work == nullptr || context.sharding.local_tokens() == 0) return;
    for (int rank = 0; rank < context.ranks.size(); ++rank)
      if (const Range columns = dealing.share(context.ranks.size(), rank); columns.size() > 0) work(columns);
  }
};

/// No more slices than the best-provided rank has groups: the others would be empty everywhere.
int worthwhile(int slices, std::int64_t groups, int ranks) {
  return static_cast<int>(std::clamp<std::int64_t>(ceil_div(groups, ranks), 1, slices));
}

/// What kernels compute for some channels, whose lanes hold a channel each: vectors of 64 bytes, full or not.
std::int64_t whole_vectors(std::int64_t channels, DType dtype) {
  const std::int64_t lanes = 64 / size_of(accumulator_of(dtype));
  return round_up(channels, lanes);
}

}  // namespace

void by_channels(const StrategyContext& context, const ChannelWork& work, int wanted_slices) {
  const int slices = worthwhile(wanted_slices, work.groups, context.ranks.size());
  const std::ptrdiff_t ahead = slices < pipeline_slices ? 1 : 2;  // few slices are large ones
  std::deque<Slice> arriving;
  std::optional<Slice> leaving;
  for (int step = 0, fetched = 0; step < slices; ++step) {
    for (; fetched < slices && std::ssize(arriving) <= ahead; ++fetched)
      arriving.emplace_back(context, work, slices, fetched).fetch(context, work);
    Slice current = std::move(arriving.front());
    arriving.pop_front();
    current.run(context, work);
    current.give_back(context, work);
    if (leaving) leaving->finish(context, work);
    leaving.emplace(std::move(current));
  }
  if (leaving) leaving->finish(context, work);
}

Cost by_channels_cost(const Sharding& sharding, const ChannelCounts& of, int wanted_slices, double operations_a_token) {
  const ShardLayout& layout = sharding.layout();
  const int ranks = layout.ranks(), slices = worthwhile(wanted_slices, of.groups, ranks);
  Cost cost;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t mine = Dealing{.channels = of.channels, .groups = of.groups}.share(ranks, rank).size(),
                       tokens = layout.local_tokens(rank);
    const std::int64_t computed = of.lanes ? slices * whole_vectors(ceil_div(mine, slices), of.dtype) : mine;
    cost.operations = std::max(
        cost.operations, operations_a_token * static_cast<double>(computed) * static_cast<double>(layout.tokens()));
    const std::int64_t elements = of.in * tokens * (of.channels - mine) + of.out * (layout.tokens() - tokens) * mine +
                                  of.gathered * tokens * (ranks - 1);
    cost.bytes_sent = std::max(cost.bytes_sent, elements * size_of(of.dtype));
  }
  if (ranks == 1) return cost;
  cost.messages = slices == 1 ? 2 : slices + 1;
  cost.hidden = 1 - 1.0 / slices;
  return cost;
}

}  // namespace causeway

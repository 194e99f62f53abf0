#include "parallel/strategies/by_channels.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include "parallel/reshard.hpp"

namespace causeway {
namespace {

/// One slice of this rank's channels of the whole pack.
struct Slice {
  Dealing dealing;
  Range mine;
  std::vector<Tensor> in, out;

  Slice(const StrategyContext& context, const ChannelWork& work, int slices, int slice)
      : dealing{.channels = work.channels, .groups = work.groups, .slices = slices, .slice = slice},
        mine(dealing.share(context.ranks.size(), context.ranks.rank())) {
    for (const TensorView local : work.in) in.push_back(room(context, local));
    for (const TensorView local : work.out) out.push_back(room(context, local));
  }
  Tensor room(const StrategyContext& context, TensorView local) const {
    return Tensor(context.stream, local.dtype, {context.sharding.layout().tokens(), mine.size()});
  }
  static std::vector<LocalAndWhole> paired(const std::vector<TensorView>& local, const std::vector<Tensor>& whole) {
    std::vector<LocalAndWhole> pairs;
    for (std::size_t i = 0; i < local.size(); ++i) pairs.push_back({local[i], whole[i]});
    return pairs;
  }
};

/// No more slices than the best-provided rank has groups: the others would be empty everywhere.
int worthwhile(int slices, std::int64_t groups, int ranks) {
  return static_cast<int>(std::clamp<std::int64_t>((groups + ranks - 1) / ranks, 1, slices));
}

}  // namespace

void by_channels(const StrategyContext& context, const ChannelWork& work, int wanted_slices, SliceOrder order) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const int slices = worthwhile(wanted_slices, work.groups, ranks.size());
  const auto slice = [&](int step) {
    return Slice(context, work, slices, order == SliceOrder::forwards ? step : slices - 1 - step);
  };
  const auto fetch = [&](Slice& next) {
    return start_tokens_to_channels(sharding, next.dealing, Slice::paired(work.in, next.in), ranks, stream);
  };
  std::optional<Slice> current = slice(0), next;
  Pending arriving = fetch(*current), leaving;
  for (int step = 0; step < slices; ++step) {
    arriving.wait();
    if (step + 1 < slices) arriving = fetch(next.emplace(slice(step + 1)));
    const std::vector<TensorView> out(current->out.begin(), current->out.end());
    if (current->mine.size() > 0 && sharding.layout().tokens() > 0) work.run(current->mine, current->in, out);
    current->in.clear();
    leaving.wait();  // the one before: two slices' results are never in flight
    const auto done = std::make_shared<Slice>(std::move(*current));
    const auto sent = std::make_shared<Pending>(
        start_channels_to_tokens(sharding, done->dealing, Slice::paired(work.out, done->out), ranks, stream));
    leaving = Pending([done, sent] { sent->wait(); });
    current = std::move(next);
  }
  leaving.wait();
}

Cost by_channels_cost(const Sharding& sharding, const ChannelCounts& of, int wanted_slices, double operations_a_token) {
  const ShardLayout& layout = sharding.layout();
  const int ranks = layout.ranks(), slices = worthwhile(wanted_slices, of.groups, ranks);
  Cost cost;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t mine = Dealing{.channels = of.channels, .groups = of.groups}.share(ranks, rank).size(),
                       tokens = layout.local_tokens(rank);
    cost.operations = std::max(cost.operations,
                               operations_a_token * static_cast<double>(mine) * static_cast<double>(layout.tokens()));
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

/// The cost functions of the strategy fft.

#include <algorithm>
#include <optional>
#include <vector>

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/exchange/distributed_fft.hpp"
#include "parallel/strategies/long_convolution/fft_slices.hpp"
#include "parallel/strategy.hpp"

namespace causeway::long_convolution::fft {
namespace {

/// What the documents that span ranks cost one rank, for each channel.
struct RankShare {
  std::int64_t rows = 0;       ///< of its equal shards
  std::int64_t held = 0;       ///< of its chunk that are in such documents
  double rotated = 0;          ///< rows that rotations compute: twist, twiddle factors, branches of butterflies
  std::int64_t documents = 0;  ///< at most two
  std::int64_t stages = 0;     ///< of the document with most of them: its transforms advance together
  std::int64_t peers = 0;      ///< messages of one transform of each document
  std::int64_t peer_rows = 0;  ///< rows that these messages have
  std::int64_t rows_sent = 0, rows_sent_back = 0;          ///< onto the equal shards and back (SpanningDocument)
  std::int64_t messages_sent = 0, messages_sent_back = 0;  ///< the same
};

Range intersection(const Range& a, const Range& b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

/// Adds a document whose first token `first` has and whose last one a later rank.
void add_document(const ShardLayout& layout, const Range& tokens, int first, std::vector<RankShare>& shares) {
  std::vector<int> ranks;  // those that hold some of it
  for (int rank = first; rank < layout.ranks() && layout.chunk(rank).begin < tokens.end; ++rank)
    if (layout.chunk(rank).size() > 0) ranks.push_back(rank);
  const std::int64_t positions = std::ssize(ranks), rows = ceil_div(tokens.size(), positions);
  const ButterflyPlan butterflies = plan_butterflies(static_cast<int>(positions), 0);  // others have as many branches
  const std::int64_t stages = std::ssize(butterflies.stages);
  std::int64_t branches = 0;
  for (const Butterfly& stage : butterflies.stages) branches += std::ssize(stage.branches);
  for (std::int64_t position = 0; position < positions; ++position) {
    RankShare& share = shares[static_cast<std::size_t>(ranks[static_cast<std::size_t>(position)])];
    const Range held = intersection(layout.chunk(ranks[static_cast<std::size_t>(position)]), tokens);
    const auto shard_of = [&](std::int64_t of) {
      return intersection({tokens.begin + of * rows, tokens.begin + (of + 1) * rows}, tokens);
    };
    share.rows += rows;
    share.held += held.size();
    share.rotated += static_cast<double>(rows * (branches + 2));
    share.documents += 1;
    share.stages = std::max(share.stages, stages);
    share.peers += branches - stages;  // in a stage a rank sends its tensor to each of the other branches
    share.peer_rows += (branches - stages) * rows;
    for (std::int64_t to = (held.begin - tokens.begin) / rows; to <= (held.end - 1 - tokens.begin) / rows; ++to) {
      if (to == position) continue;
      RankShare& receiver = shares[static_cast<std::size_t>(ranks[static_cast<std::size_t>(to)])];
      const std::int64_t moved = intersection(held, shard_of(to)).size();
      share.rows_sent += moved;
      share.messages_sent += 1;
      receiver.rows_sent_back += moved;
      receiver.messages_sent_back += 1;
    }
  }
}

/// The shares of all ranks. Its time is that of the ranks, however many documents there are.
std::vector<RankShare> rank_shares(const ShardLayout& layout, const Segments& segments) {
  std::vector<RankShare> shares(static_cast<std::size_t>(layout.ranks()));
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    const Range held = layout.chunk(rank);
    if (held.size() == 0) continue;
    const Range last{segments.start_of(held.end - 1), segments.end_of(held.end - 1)};
    if (last.begin >= held.begin && last.end > held.end) add_document(layout, last, rank, shares);
  }
  return shares;
}

/// Of the documents that span ranks: two transforms of D channels, one of the filter's G groups if the filter is
/// transformed, and the moves onto equal shards and back. Backward transforms the inputs again, and the gradient of the
/// filter. A rank's other documents take the kernel of one rank. Bytes and messages are those of the rank with most of
/// them, kernels those of the rank with most rows of such documents: of the others it has least.
PassCosts fft_costs(const Sharding& sharding, const GatedConvInputs& in, std::int64_t groups, bool filter_transformed,
                    const std::optional<TimedKernel>& spectrum) {
  const std::int64_t D = in.v.columns(), T = sharding.layout().tokens();
  const ShardLayout layout(T, sharding.layout().ranks(), Layout::contiguous);
  if (T == 0 || D == 0) return {};
  const std::vector<RankShare> shares = rank_shares(layout, sharding.segments());
  const auto busiest = std::ranges::max_element(shares, {}, [](const RankShare& share) { return share.rows; });
  std::int64_t alone = 0;  // rows of documents that span no ranks, on that rank, or if there are only these, on any
  for (std::size_t rank = 0; rank < shares.size(); ++rank)
    if (busiest->rows == 0 || &shares[rank] == &*busiest)
      alone = std::max(alone, layout.chunk(static_cast<int>(rank)).size() - shares[rank].held);
  const DType wide = accumulator_of(in.v.dtype);
  const std::int64_t point_bytes = 2 * size_of(wide);
  const auto slices = std::min<std::int64_t>(slices_of(layout, D, in.v.dtype), groups);
  const auto pass = [&](int transforms, int filter_transforms, int moves_onto_shards) {
    Cost cost;
    if (alone > 0)
      cost.kernels.push_back({.kernel = fft_kernel(sharding.whole_pack().longest_document, D, groups),
                              .elements = static_cast<double>(alone) * static_cast<double>(D)});
    if (busiest->rows == 0) return cost;
    const std::int64_t columns = transforms * D + filter_transforms * groups, all = transforms + filter_transforms;
    const auto calls = static_cast<double>(slices * all * busiest->documents);
    const double points = static_cast<double>(busiest->rows) * static_cast<double>(columns);
    cost.kernels.push_back({.kernel = transform_kernel(equal_shard(layout)), .elements = points, .calls = calls});
    if (spectrum)
      cost.kernels.push_back({.kernel = *spectrum,
                              .elements = static_cast<double>(busiest->rows) * static_cast<double>(groups),
                              .calls = static_cast<double>(slices * busiest->documents)});
    const double rotated = busiest->rotated / static_cast<double>(busiest->rows);
    cost.kernels.push_back({.kernel = rotation_kernel(), .elements = points * rotated, .calls = calls * rotated});
    cost.copied_bytes = 3 * points * static_cast<double>(point_bytes);
    cost.copies = 2 * calls;
    for (const RankShare& share : shares) {
      const std::int64_t moved = moves_onto_shards * share.rows_sent + share.rows_sent_back,
                         moves = moves_onto_shards * share.messages_sent + share.messages_sent_back;
      cost.bytes_sent =
          std::max(cost.bytes_sent, share.peer_rows * columns * point_bytes + moved * D * size_of(in.v.dtype));
      cost.messages = std::max(cost.messages, slices * (share.peers * all + moves));
      cost.rounds = std::max(cost.rounds, slices * (2 * share.stages + (moves > 0 ? moves_onto_shards + 1 : 0)));
    }
    return cost;
  };
  PassCosts costs{.forward = pass(2, filter_transformed ? 1 : 0, 1),
                  .backward = pass(3, filter_transformed ? 2 : 0, 2)};
  costs.backward = adjoint(costs.backward);
  costs.repeated = costs.forward;
  return costs;
}

}  // namespace

PassCosts cost(const Sharding& sharding, const ModalConvForward& args) {
  return fft_costs(sharding, args.in, args.residues.rows(), false, spectrum_of(args));
}
PassCosts cost(const Sharding& sharding, const FftConvForward& args) {
  return fft_costs(sharding, args.in, args.taps.rows(), true, std::nullopt);
}

}  // namespace causeway::long_convolution::fft

#include "src/train/data/pack_sequence.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>

#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"

namespace causeway {
namespace {

/// Numbers of random streams under the run's seed. (The streams of parameters are hashes of their names.)
constexpr std::uint64_t dataset_choice_stream = 1, first_shuffle_stream = std::uint64_t{1} << 32;

}  // namespace

PackSequence::PackSequence(const DataMixture& data, const PackingOptions& packing, std::uint64_t seed,
                           std::function<void()> between, CostOfPack cost)
    : seed_(seed),
      between_(std::move(between)),
      datasets_(data.datasets.size()),
      packer_(packing, [this] { return std::optional(draw()); }),
      cost_(std::move(cost)) {
  std::partial_sum(data.weights.begin(), data.weights.end(), std::back_inserter(cumulative_weights_));
  for (std::size_t d = 0; d < datasets_.size(); ++d) {
    ShuffledPieces& source = datasets_[d];
    const auto cu_seqlens = data.datasets[d].cu_seqlens();
    for (std::int64_t document = 0; document + 1 < std::ssize(cu_seqlens); ++document) {
      const std::int64_t length = cu_seqlens[document + 1] - cu_seqlens[document];
      const std::int64_t longest =
          packing.long_documents == LongDocuments::cut ? packing.pack_tokens : std::max<std::int64_t>(1, length);
      for (std::int64_t begin = 0; begin < length; begin += longest) {
        count_work();
        source.pieces.push_back({.dataset = static_cast<std::int32_t>(d),
                                 .document = document,
                                 .begin = begin,
                                 .end = std::min(length, begin + longest)});
      }
    }
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    require(source.pieces.size() <= most, "{}: has {} pieces of at most --pack-tokens {}, expected at most {}",
            data.datasets[d].path(), source.pieces.size(), packing.pack_tokens, most);
    source.order.resize(source.pieces.size());
    std::iota(source.order.begin(), source.order.end(), 0U);
    shuffle(d);
  }
}

void PackSequence::count_work() {
  constexpr std::int64_t often = std::int64_t{1} << 18;  // some milliseconds
  if (++work_ < often) return;
  work_ = 0;
  if (between_) between_();
}

/// Fisher-Yates shuffle. An epoch's order depends on seed, dataset and epoch, and on the order before it.
void PackSequence::shuffle(std::size_t dataset) {
  ShuffledPieces& source = datasets_[dataset];
  const RandomStream random(seed_, first_shuffle_stream * (dataset + 1) + source.epoch);
  for (std::size_t i = source.order.size(); i > 1; --i) {
    count_work();
    std::swap(source.order[i - 1], source.order[random.below(i, i)]);
  }
  source.drawn = 0;
  ++source.epoch;
}

Piece PackSequence::draw() {
  count_work();
  std::size_t dataset = 0;
  if (datasets_.size() > 1) {
    const double at = RandomStream(seed_, dataset_choice_stream).uniform(draws_++) * cumulative_weights_.back();
    dataset = static_cast<std::size_t>(
        std::upper_bound(cumulative_weights_.begin(), cumulative_weights_.end() - 1, at) - cumulative_weights_.begin());
  }
  ShuffledPieces& source = datasets_[dataset];
  if (source.drawn == source.order.size()) shuffle(dataset);
  return source.pieces[source.order[source.drawn++]];
}

/// The next window, in the order of costs. Windows rise and fall in turn, so that packs cost about the same also where
/// two windows meet. Packs that cost the same stay in their order.
void PackSequence::plan_window() {
  std::vector<std::pair<double, Pack>> window;
  for (std::int64_t i = 0; i < balanced_window; ++i) {
    Pack pack;
    packer_.next(pack);
    const double cost = cost_(pack);
    window.emplace_back(cursor_ / balanced_window % 2 == 0 ? cost : -cost, std::move(pack));
  }
  std::ranges::stable_sort(window, {}, [](const auto& each) { return each.first; });
  for (auto& [cost, pack] : window) ahead_.push_back(std::move(pack));
}

Pack PackSequence::next() {
  if (cost_) {
    if (ahead_.empty()) plan_window();
    Pack pack = std::move(ahead_.front());
    ahead_.pop_front();
    ++cursor_;
    return pack;
  }
  std::optional<Pack> pack = packer_.next();
  ensure(pack.has_value(), "the endless sequence of packs ended after {}", cursor_);
  ++cursor_;
  return *std::move(pack);
}

void PackSequence::advance_to(std::int64_t cursor, const std::function<void(std::int64_t)>& progress) {
  constexpr std::int64_t often = 1024;
  // The order within windows that are skipped does not matter.
  const std::int64_t whole = cost_ ? cursor / balanced_window * balanced_window : cursor;
  for (Pack pack; ahead_.empty() && cursor_ < whole; ++cursor_) {
    packer_.next(pack);
    if (progress && cursor_ % often == 0) progress(cursor_);
  }
  while (cursor_ < cursor) static_cast<void>(next());
}

std::int64_t PackSequence::advance_by_tokens(double tokens, const std::function<void(std::int64_t)>& progress) {
  constexpr std::int64_t often = 1024;
  const std::int64_t before = cursor_;
  std::int64_t taken = 0;
  for (Pack pack; static_cast<double>(taken) < tokens;) {
    if (cost_) {
      pack = next();
    } else {
      packer_.next(pack);
      ++cursor_;
    }
    taken += pack.tokens();
    if (cursor_ % often == 0) progress(taken);
  }
  return cursor_ - before;
}

std::vector<std::vector<std::size_t>> deal_by_cost(std::span<const double> costs, int groups) {
  std::vector<std::size_t> order(costs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](std::size_t pack) { return costs[pack]; });
  const std::size_t each = costs.size() / static_cast<std::size_t>(groups);
  std::vector<std::vector<std::size_t>> dealt(static_cast<std::size_t>(groups));
  std::vector<double> sums(dealt.size());
  for (const std::size_t pack : order) {
    std::size_t least = dealt.size();
    for (std::size_t group = 0; group < dealt.size(); ++group)
      if (dealt[group].size() < each && (least == dealt.size() || sums[group] < sums[least])) least = group;
    dealt[least].push_back(pack);
    sums[least] += costs[pack];
  }
  return dealt;
}

Packer make_packer_in_order(const DataMixture& data, const PackingOptions& packing) {
  return Packer(
      packing, [&data, dataset = std::size_t{0}, document = std::int64_t{0}]() mutable -> std::optional<Piece> {
        while (dataset < data.datasets.size() && document == data.datasets[dataset].documents()) {
          ++dataset;
          document = 0;
        }
        if (dataset == data.datasets.size()) return std::nullopt;
        const auto cu_seqlens = data.datasets[dataset].cu_seqlens();
        const std::int64_t length = cu_seqlens[document + 1] - cu_seqlens[document];
        return Piece{.dataset = static_cast<std::int32_t>(dataset), .document = document++, .begin = 0, .end = length};
      });
}

}  // namespace causeway

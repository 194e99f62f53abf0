#include "src/train/training_data.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "io/file/look_up.hpp"
#include "kernels/core/random.hpp"
#include "src/runtime/host_copy.hpp"
#include "src/runtime/sum_over_ranks.hpp"

namespace causeway {
namespace {

/// Numbers of random streams under the run's seed. (The streams of parameters are hashes of their names.)
constexpr std::uint64_t dataset_choice_stream = 1, first_shuffle_stream = std::uint64_t{1} << 32;

/// "data.h5:0.5" → path and weight. A colon without a number after it is part of the path.
std::pair<std::string, double> parse_source(const std::string& source) {
  const std::size_t colon = source.rfind(':');
  if (colon == std::string::npos || colon + 1 == source.size()) return {source, 1.0};
  const char* const text = source.c_str() + colon + 1;
  char* end = nullptr;
  const double weight = std::strtod(text, &end);
  if (*end != '\0') return {source, 1.0};
  require(std::isfinite(weight) && weight > 0, "--data {}: the weight is {}, expected a positive number", source, text);
  return {source.substr(0, colon), weight};
}

/// Multiplies all weights by one power of two, which is exact, so that their sum neither overflows nor is subnormal.
void bring_into_range(std::vector<double>& weights) {
  int exponent = 0;
  std::frexp(*std::ranges::max_element(weights), &exponent);
  constexpr int safe = 512;
  if (exponent > -safe && exponent < safe) return;
  for (double& weight : weights) weight = std::ldexp(weight, -exponent);
}

/// Whether a token of the dataset is a label, when documents are cut into pieces of at most `longest` tokens: every
/// token but the first of a piece is one, unless the loss mask or the loss weight is 0 there.
bool has_label(const Dataset& dataset, std::int64_t longest, const std::function<void()>& between) {
  constexpr std::int64_t at_once = std::int64_t{1} << 20;
  const auto starts = dataset.cu_seqlens();
  const bool weighted = dataset.has_loss_mask() || dataset.has_loss_weights();
  std::vector<float> weights;
  std::int64_t weights_begin = 0;
  std::int64_t pieces = 0;
  for (std::int64_t document = 0; document + 1 < std::ssize(starts); ++document)
    for (std::int64_t begin = starts[document]; begin < starts[document + 1];) {
      const std::int64_t end = begin + std::min(longest, starts[document + 1] - begin);
      if (end - begin > 1 && !weighted) return true;
      if (between && ++pieces % at_once == 0) between();
      for (std::int64_t token = begin + 1; token < end && weighted; ++token) {
        if (token >= weights_begin + std::ssize(weights)) {
          if (between) between();
          weights_begin = token;
          weights.resize(static_cast<std::size_t>(std::min(at_once, dataset.tokens() - token)));
          dataset.read_label_weights(token, weights);
        }
        if (weights[static_cast<std::size_t>(token - weights_begin)] != 0) return true;
      }
      begin = end;
    }
  return false;
}

/// The smallest share of all weights with which a dataset can be drawn: a random number has 53 bits.
constexpr double smallest_share = 1e-15;

}  // namespace

DataMixture DataMixture::open(const std::vector<std::string>& sources, std::int64_t vocabulary) {
  require(!sources.empty(), "--data is missing: expected at least one dataset, as causeway import writes them");
  DataMixture mixture;
  for (const std::string& source : sources) {
    const auto [path, weight] =
        kind_of(source) != std::filesystem::file_type::not_found ? std::pair(source, 1.0) : parse_source(source);
    const Dataset& dataset = mixture.datasets.emplace_back(path);
    mixture.weights.push_back(weight);
    require(dataset.tokens() > 0, "{}: the dataset has no tokens", path);
    require(dataset.vocabulary_size() <= vocabulary,
            "{}: vocabulary_size is {}, expected at most the model's {}; a new model has it with --vocabulary {}", path,
            dataset.vocabulary_size(), vocabulary, dataset.vocabulary_size());
  }
  bring_into_range(mixture.weights);
  const double all = std::accumulate(mixture.weights.begin(), mixture.weights.end(), 0.0);
  for (std::size_t d = 0; d < sources.size(); ++d)
    require(
        mixture.weights[d] / all >= smallest_share,
        "--data {}: the weight is {:.1e} of all weights, expected at least {:.0e}: no document would be drawn from it",
        sources[d], mixture.weights[d] / all, smallest_share);
  return mixture;
}

std::int64_t DataMixture::tokens() const {
  return std::accumulate(datasets.begin(), datasets.end(), std::int64_t{0},
                         [](std::int64_t sum, const Dataset& dataset) { return sum + dataset.tokens(); });
}

double DataMixture::mean_document() const {
  std::int64_t documents = 0;
  for (const Dataset& dataset : datasets) documents += dataset.documents();
  return static_cast<double>(tokens()) / static_cast<double>(std::max<std::int64_t>(documents, 1));
}

bool DataMixture::has_loss_weights() const { return std::ranges::any_of(datasets, &Dataset::has_loss_weights); }

void DataMixture::refuse_without_labels(const PackingOptions& packing, const std::function<void()>& between) const {
  const std::int64_t longest =
      packing.long_documents == LongDocuments::cut ? packing.pack_tokens : std::numeric_limits<std::int64_t>::max();
  for (const Dataset& dataset : datasets)
    require(has_label(dataset, longest, between),
            "{}: no token is a label{}, so there is nothing to learn from: the first token of a document{} has none, "
            "and {}",
            dataset.path(), longest == 1 ? " with --pack-tokens 1" : "",
            longest < dataset.tokens() ? fmt::format(", or of its pieces of at most --pack-tokens {},", longest) : "",
            dataset.has_loss_weights() ? "the loss weight is 0 at all others"
            : dataset.has_loss_mask()  ? "the loss mask is 0 at all others"
                                       : "there is no other token");
}

void DataMixture::refuse_too_large_packs(std::int64_t pack_tokens) const {
  constexpr std::int64_t always_allowed = std::int64_t{1} << 20, most_repeats = 16;
  const std::int64_t most = std::max(always_allowed, most_repeats * tokens());
  require(pack_tokens <= most,
          "--pack-tokens is {}, but the data have {} tokens; expected at most {}: a larger pack would only repeat the "
          "same documents",
          pack_tokens, tokens(), most);
}

void DataMixture::refuse_longer(std::int64_t most) const {
  for (const Dataset& dataset : datasets) {
    const auto starts = dataset.cu_seqlens();
    for (std::int64_t document = 0; document < dataset.documents(); ++document) {
      const std::int64_t length = starts[document + 1] - starts[document];
      require(length <= most,
              "{}: document {} has {} tokens, expected at most --pack-tokens {}, or --long-documents cut",
              dataset.path(), document, length, most);
    }
  }
}

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
  // Of windows that are left out the order does not matter.
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

void for_each_local_run(const Pack& pack, const Sharding& sharding, const std::function<void(const LocalRun&)>& visit) {
  const auto starts = sharding.segments().cu_seqlens();
  for (const Chunk& chunk : sharding.chunks()) {
    if (chunk.tokens.size() == 0) continue;
    auto piece = static_cast<std::size_t>(std::upper_bound(starts.begin(), starts.end(), chunk.tokens.begin) -
                                          starts.begin() - 1);
    for (std::int64_t at = chunk.tokens.begin; at < chunk.tokens.end; ++piece) {
      const std::int64_t end = std::min(chunk.tokens.end, starts[piece + 1]);
      visit({.piece = pack.pieces[piece],
             .tokens = {at - starts[piece], end - starts[piece]},
             .row = chunk.first_row + at - chunk.tokens.begin,
             .ends_piece = end == starts[piece + 1]});
      at = end;
    }
  }
}

HostBatch read_batch(const DataMixture& data, const Pack& pack, const Sharding& sharding) {
  HostBatch batch;
  batch.ids.resize(static_cast<std::size_t>(sharding.local_tokens()));
  batch.labels.assign(batch.ids.size(), -1);
  if (data.has_loss_weights()) batch.weights.assign(batch.ids.size(), 0);
  std::vector<std::int32_t> tokens;
  std::vector<float> token_weights;
  for_each_local_run(pack, sharding, [&](const LocalRun& run) {
    const Dataset& dataset = data.datasets[static_cast<std::size_t>(run.piece.dataset)];
    const std::int64_t count = run.tokens.size(), with_label = run.ends_piece ? count - 1 : count;
    const std::int64_t offset = dataset.cu_seqlens()[run.piece.document] + run.piece.begin + run.tokens.begin;
    tokens.resize(static_cast<std::size_t>(with_label + 1));
    dataset.read_tokens(offset, tokens);
    token_weights.resize(tokens.size());
    dataset.read_label_weights(offset, token_weights);
    std::copy_n(tokens.begin(), count, batch.ids.begin() + run.row);
    for (std::int64_t i = 0; i < with_label; ++i) {
      const float weight = token_weights[static_cast<std::size_t>(i + 1)];
      if (weight == 0) continue;
      batch.labels[static_cast<std::size_t>(run.row + i)] = tokens[static_cast<std::size_t>(i + 1)];
      if (!batch.weights.empty()) batch.weights[static_cast<std::size_t>(run.row + i)] = weight;
      ++batch.labelled;
      batch.weight_sum += static_cast<double>(weight);
    }
  });
  return batch;
}

PackOnRank read_pack(const DataMixture& data, const Pack& pack, Layout layout, const Runtime& runtime) {
  PackOnRank placed;
  placed.sharding = shard(pack, layout, runtime);
  const HostBatch host = read_batch(data, pack, *placed.sharding);
  placed.ids = on_device<std::int32_t>(runtime.stream, host.ids);
  placed.labels = on_device<std::int32_t>(runtime.stream, host.labels);
  placed.labelled = host.labelled;
  placed.weight_sum = host.weight_sum;
  if (data.has_loss_weights()) placed.weights = on_device<float>(runtime.stream, host.weights);
  return placed;
}

void scale_weights(PackOnRank& placed, LabelWeights weights, Runtime& runtime) {
  if (weights == LabelWeights::as_given || !placed.weights.present()) return;
  const auto own_labels = static_cast<double>(placed.labelled);
  const auto [labels, sum] = sum_over_ranks(runtime.mesh.context, std::array{own_labels, placed.weight_sum});
  if (sum > 0) placed.weight_scale = labels / sum;
  placed.weight_sum = own_labels;  // the ranks' sum is the same, without rounding
}

PackOnRank place_pack(const DataMixture& data, const Pack& pack, Layout layout, Runtime& runtime,
                      LabelWeights weights) {
  PackOnRank placed = read_pack(data, pack, layout, runtime);
  scale_weights(placed, weights, runtime);
  return placed;
}

std::unique_ptr<Sharding> shard(const Pack& pack, Layout layout, const Runtime& runtime) {
  const Communicator& context = runtime.mesh.context;
  auto sharding = std::make_unique<Sharding>(ShardLayout(pack.tokens(), context.size(), layout), segments_of(pack),
                                             context.rank(), runtime.stream);
  sharding->set_one_way_layers(runtime.one_way_layers);
  return sharding;
}

Segments segments_of(const Pack& pack) {
  std::vector<std::int64_t> lengths;
  for (const Piece& piece : pack.pieces) lengths.push_back(piece.size());
  return Segments::of_lengths(lengths);
}

}  // namespace causeway

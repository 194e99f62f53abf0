#include "src/train/training_data.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "io/file/look_up.hpp"
#include "kernels/core/random.hpp"
#include "src/runtime/host_copy.hpp"

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
    require(dataset.vocabulary_size() <= vocabulary, "{}: vocabulary_size is {}, expected at most the model's {}", path,
            dataset.vocabulary_size(), vocabulary);
  }
  return mixture;
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

PackSequence::PackSequence(const DataMixture& data, const PackingOptions& packing, std::uint64_t seed)
    : seed_(seed), datasets_(data.datasets.size()), packer_(packing, [this] { return std::optional(draw()); }) {
  std::partial_sum(data.weights.begin(), data.weights.end(), std::back_inserter(cumulative_weights_));
  for (std::size_t d = 0; d < datasets_.size(); ++d) {
    const auto cu_seqlens = data.datasets[d].cu_seqlens();
    for (std::int64_t document = 0; document + 1 < std::ssize(cu_seqlens); ++document) {
      const std::int64_t length = cu_seqlens[document + 1] - cu_seqlens[document];
      const std::int64_t longest =
          packing.long_documents == LongDocuments::cut ? packing.pack_tokens : std::max<std::int64_t>(1, length);
      for (std::int64_t begin = 0; begin < length; begin += longest)
        datasets_[d].pieces.push_back({.dataset = static_cast<std::int32_t>(d),
                                       .document = document,
                                       .begin = begin,
                                       .end = std::min(length, begin + longest)});
    }
    shuffle(d);
  }
}

/// Fisher-Yates shuffle. An epoch's order depends on seed, dataset and epoch, and on the order before it.
void PackSequence::shuffle(std::size_t dataset) {
  ShuffledPieces& source = datasets_[dataset];
  const RandomStream random(seed_, first_shuffle_stream * (dataset + 1) + source.epoch);
  for (std::size_t i = source.pieces.size(); i > 1; --i)
    std::swap(source.pieces[i - 1], source.pieces[random.below(i, i)]);
  source.drawn = 0;
  ++source.epoch;
}

Piece PackSequence::draw() {
  std::size_t dataset = 0;
  if (datasets_.size() > 1) {
    const double at = RandomStream(seed_, dataset_choice_stream).uniform(draws_++) * cumulative_weights_.back();
    dataset = static_cast<std::size_t>(
        std::upper_bound(cumulative_weights_.begin(), cumulative_weights_.end() - 1, at) - cumulative_weights_.begin());
  }
  ShuffledPieces& source = datasets_[dataset];
  if (source.drawn == source.pieces.size()) shuffle(dataset);
  return source.pieces[source.drawn++];
}

Pack PackSequence::next() {
  std::optional<Pack> pack = packer_.next();
  ensure(pack.has_value(), "the endless sequence of packs ended after {}", cursor_);
  ++cursor_;
  return *std::move(pack);
}

void PackSequence::advance_to(std::int64_t cursor) {
  while (cursor_ < cursor) next();
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

HostBatch read_batch(const DataMixture& data, const Pack& pack, const Sharding& sharding, LossMask loss_mask) {
  const auto starts = sharding.segments().cu_seqlens();
  HostBatch batch;
  batch.ids.resize(static_cast<std::size_t>(sharding.local_tokens()));
  batch.labels.assign(batch.ids.size(), -1);
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> mask;
  for (const Chunk& chunk : sharding.chunks()) {
    if (chunk.tokens.size() == 0) continue;
    auto piece = static_cast<std::size_t>(std::upper_bound(starts.begin(), starts.end(), chunk.tokens.begin) -
                                          starts.begin() - 1);
    for (std::int64_t at = chunk.tokens.begin; at < chunk.tokens.end; ++piece) {
      const Piece& source = pack.pieces[piece];
      const Dataset& dataset = data.datasets[static_cast<std::size_t>(source.dataset)];
      const std::int64_t end = std::min(chunk.tokens.end, starts[piece + 1]), count = end - at;
      const std::int64_t with_label = end < starts[piece + 1] ? count : count - 1;
      const std::int64_t offset = dataset.cu_seqlens()[source.document] + source.begin + (at - starts[piece]);
      tokens.resize(static_cast<std::size_t>(with_label + 1));
      dataset.read_tokens(offset, tokens);
      mask.assign(tokens.size(), 1);
      if (loss_mask == LossMask::honoured && dataset.has_loss_mask()) dataset.read_loss_mask(offset, mask);
      const std::int64_t row = chunk.first_row + at - chunk.tokens.begin;
      std::copy_n(tokens.begin(), count, batch.ids.begin() + row);
      for (std::int64_t i = 0; i < with_label; ++i) {
        if (mask[static_cast<std::size_t>(i + 1)] == 0) continue;
        batch.labels[static_cast<std::size_t>(row + i)] = tokens[static_cast<std::size_t>(i + 1)];
        ++batch.labelled;
      }
      at = end;
    }
  }
  return batch;
}

PackOnRank place_pack(const DataMixture& data, const Pack& pack, Layout layout, const Runtime& runtime,
                      LossMask loss_mask) {
  const Communicator& context = runtime.mesh.context;
  PackOnRank placed;
  placed.sharding = std::make_unique<Sharding>(ShardLayout(pack.tokens(), context.size(), layout), segments_of(pack),
                                               context.rank(), runtime.stream);
  const HostBatch host = read_batch(data, pack, *placed.sharding, loss_mask);
  placed.ids = on_device<std::int32_t>(runtime.stream, host.ids);
  placed.labels = on_device<std::int32_t>(runtime.stream, host.labels);
  placed.labelled = host.labelled;
  return placed;
}

Segments segments_of(const Pack& pack) {
  std::vector<std::int64_t> lengths;
  for (const Piece& piece : pack.pieces) lengths.push_back(piece.size());
  return Segments::of_lengths(lengths);
}

}  // namespace causeway

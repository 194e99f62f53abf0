#include "src/train/data/pack_on_rank.hpp"

#include <algorithm>
#include <array>

#include "src/runtime/host_copy.hpp"
#include "src/runtime/sum_over_ranks.hpp"

namespace causeway {

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
  placed.sharding = sharding_of(pack, layout, runtime);
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

std::unique_ptr<Sharding> sharding_of(const Pack& pack, Layout layout, const Runtime& runtime) {
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

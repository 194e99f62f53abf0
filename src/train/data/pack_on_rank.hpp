#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "parallel/layout/sharding.hpp"
#include "src/model/model.hpp"
#include "src/train/data/data_mixture.hpp"

namespace causeway {

/// How much a label counts. Its weight is that of its own token in the dataset: the row of token t predicts t+1 and has
/// the weight of t+1.
enum class LabelWeights : std::uint8_t {
  as_given,  ///< Dataset::read_label_weights
  /// As given, times the number of the pack's labels with a weight above 0 over the sum of their weights: a pack of
  /// repeats counts as much as a pack of genes. Evo 2's training does so with a micro-batch: savanna
  /// (github.com/Zymrael/savanna), reweighted_cross_entropy with normalize_per_batch.
  normalised_in_pack
};

/// This rank's rows of a pack, in host memory.
struct HostBatch {
  std::vector<std::int32_t> ids, labels;  ///< as in Batch
  std::vector<float> weights;             ///< of the labels; empty if no dataset has weights
  std::int64_t labelled = 0;              ///< number of this rank's tokens that have a label
  double weight_sum = 0;                  ///< of their labels; equal to `labelled` without weights
};
/// Reads this rank's tokens, and the token after each of its chunks, which is the label of the chunk's last token.
HostBatch read_batch(const DataMixture& data, const Pack& pack, const Sharding& sharding);

/// This rank's part of a pack, on its device.
struct PackOnRank {
  std::unique_ptr<Sharding> sharding;
  Tensor ids, labels, weights;
  std::int64_t labelled = 0;  ///< as in HostBatch
  double weight_scale = 1;
  double weight_sum = 0;  ///< of this rank's labels, scaled
  Batch batch() const { return {ids, labels, weights, weight_scale}; }
};
/// Reads this rank's part of a pack and copies it to the device, with the weights as they are given. No rank waits for
/// another, nor for its device.
PackOnRank read_pack(const DataMixture& data, const Pack& pack, Layout layout, const Runtime& runtime);
/// Scales the weights of the pack's labels. Collective over the pack's ranks.
void scale_weights(PackOnRank& placed, LabelWeights weights, Runtime& runtime);
/// read_pack() and scale_weights(). Collective over the pack's ranks.
PackOnRank place_pack(const DataMixture& data, const Pack& pack, Layout layout, Runtime& runtime, LabelWeights weights);

/// Consecutive tokens of one piece that this rank holds.
struct LocalRun {
  const Piece& piece;
  Range tokens;            ///< of the piece: its first token is 0
  std::int64_t row = 0;    ///< the rank-local row of the first one
  bool ends_piece = true;  ///< otherwise a token follows in the piece, the label of the last one here
};
/// Calls visit for each run of this rank's tokens, in the order of its rows.
void for_each_local_run(const Pack& pack, const Sharding& sharding, const std::function<void(const LocalRun&)>& visit);

/// How a pack is divided over the ranks of its context group, as this rank sees it.
std::unique_ptr<Sharding> sharding_of(const Pack& pack, Layout layout, const Runtime& runtime);

/// The documents of a pack: one segment for each piece.
Segments segments_of(const Pack& pack);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/data/dataset.hpp"
#include "io/data/packing.hpp"
#include "parallel/layout/sharding.hpp"
#include "src/model/model.hpp"

namespace causeway {

/// Datasets, with the weight by which documents are drawn from each: `FILE` or `FILE:WEIGHT`, as --data gives them.
struct DataMixture {
  std::vector<Dataset> datasets;
  std::vector<double> weights;
  /// Opens every file. Throws Error(usage) for a weight that is not positive, one so small beside the others that no
  /// document would ever be drawn, a dataset without tokens, or a dataset whose vocabulary is larger than `vocabulary`.
  static DataMixture open(const std::vector<std::string>& sources, std::int64_t vocabulary);
  /// Throws Error(usage) that names the first document with more than `most` tokens.
  void refuse_longer(std::int64_t most) const;
  /// Throws Error(usage) where packs are so much larger than all data together that planning one would take longer
  /// than reading the data: a pack of an endless sequence repeats the data until it is full.
  void refuse_too_large_packs(std::int64_t pack_tokens) const;
  /// Throws Error(usage) that names the first dataset of which no token would be a label: documents, or their pieces,
  /// of one token, or a loss mask or loss weights without a value that counts. Reads them up to the first such value.
  /// `between`, if given, is called regularly and may throw to stop.
  void refuse_without_labels(const PackingOptions& packing, const std::function<void()>& between) const;
  std::int64_t tokens() const;    ///< of all datasets
  double mean_document() const;   ///< tokens of a document, over all datasets
  bool has_loss_weights() const;  ///< whether any dataset has them
};

/// The endless sequence of packs that a run trains on. It is the same on every rank and for every mesh. Documents are
/// drawn from the datasets by weight, in a new random order in every epoch of a dataset, and packed in the order drawn.
/// Only the documents' lengths are read. With LongDocuments::cut, documents are cut into pieces of at most one pack
/// before they are shuffled, so that the pieces of one long genome do not follow each other.
///
/// With a cost of packs, neighbours cost about the same, so that the data groups of a step have equal work: each
/// `balanced_window` packs are in the order of their cost, in turn rising and falling. Which groups there are changes
/// nothing: the sequence stays the same for every mesh, and every run resumes at its cursor.
class PackSequence {
 public:
  static constexpr std::int64_t balanced_window = 512;
  using CostOfPack = std::function<double(const Pack&)>;

  /// `between`, if given, is called regularly while documents are shuffled and drawn: after the same documents on every
  /// rank, so that it may communicate. It may throw to stop.
  PackSequence(const DataMixture& data, const PackingOptions& packing, std::uint64_t seed,
               std::function<void()> between = {}, CostOfPack cost = {});
  PackSequence(const PackSequence&) = delete;  // the packer draws from it
  PackSequence& operator=(const PackSequence&) = delete;

  Pack next();
  std::int64_t cursor() const { return cursor_; }  ///< number of packs taken so far
  /// Takes packs until that many have been taken. `progress`, if given, is called with the number taken so far.
  void advance_to(std::int64_t cursor, const std::function<void(std::int64_t)>& progress = {});
  /// Takes packs until those taken have that many tokens; returns how many packs were taken.
  std::int64_t advance_by_tokens(double tokens, const std::function<void(std::int64_t)>& progress);

 private:
  /// The pieces of one dataset, and the order of the current epoch: indices of 4 bytes are shuffled, not pieces of 32.
  struct ShuffledPieces {
    std::vector<Piece> pieces;
    std::vector<std::uint32_t> order;
    std::size_t drawn = 0;
    std::uint64_t epoch = 0;
  };
  Piece draw();
  void shuffle(std::size_t dataset);
  void count_work();
  void plan_window();

  std::vector<double> cumulative_weights_;
  std::uint64_t seed_, draws_ = 0;
  std::function<void()> between_;
  std::int64_t work_ = 0;  // since the last call of between_
  std::vector<ShuffledPieces> datasets_;
  Packer packer_;
  CostOfPack cost_;
  std::deque<Pack> ahead_;  // with a cost: the rest of the window
  std::int64_t cursor_ = 0;
};

/// Which packs of a step each data group computes, as many each: numbers in `costs`, which has a multiple of `groups`
/// packs. The costliest pack goes first, each to the group with the least so far that has room.
std::vector<std::vector<std::size_t>> deal_by_cost(std::span<const double> costs, int groups);

/// Packs every document of the datasets once, in order.
Packer make_packer_in_order(const DataMixture& data, const PackingOptions& packing);

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
/// Both of these.
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
std::unique_ptr<Sharding> shard(const Pack& pack, Layout layout, const Runtime& runtime);

/// The documents of a pack: one segment for each piece.
Segments segments_of(const Pack& pack);

}  // namespace causeway

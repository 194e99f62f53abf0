#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/data/dataset.hpp"
#include "io/data/packing.hpp"
#include "parallel/layout/sharding.hpp"
#include "src/model/model.hpp"

namespace causeway {

/// Datasets and how often documents are drawn from each: `FILE` or `FILE:WEIGHT`, as --data gives them.
struct DataMixture {
  std::vector<Dataset> datasets;
  std::vector<double> weights;
  /// Opens every file. Throws Error(usage) for a weight that is not positive, a dataset without tokens, or ids the
  /// model has no row for.
  static DataMixture open(const std::vector<std::string>& sources, std::int64_t vocabulary);
  /// Throws Error(usage) naming the first document of more than `most` tokens, so that a run ends before it begins.
  void refuse_longer(std::int64_t most) const;
};

/// The endless sequence of packs a run trains on, the same on every rank whatever the mesh: documents drawn from the
/// datasets by weight, each dataset's in a fresh order every epoch, packed in that order. It looks at lengths only.
/// With LongDocuments::cut, documents are cut into pieces of at most a pack before they are shuffled, so that one long
/// genome is not read from front to back.
class PackSequence {
 public:
  PackSequence(const DataMixture& data, const PackingOptions& packing, std::uint64_t seed);
  PackSequence(const PackSequence&) = delete;  // the packer draws from it
  PackSequence& operator=(const PackSequence&) = delete;

  Pack next();
  std::int64_t cursor() const { return cursor_; }  ///< packs taken so far
  void advance_to(std::int64_t cursor);

 private:
  struct Deck {
    std::vector<Piece> pieces;
    std::size_t dealt = 0;
    std::uint64_t epoch = 0;
  };
  Piece draw();
  void shuffle(std::size_t dataset);

  std::vector<double> cumulative_weights_;
  std::uint64_t seed_, draws_ = 0;
  std::vector<Deck> decks_;
  Packer packer_;
  std::int64_t cursor_ = 0;
};

/// Every document of the datasets once, in order.
Packer make_packer_in_order(const DataMixture& data, const PackingOptions& packing);

/// Whether a dataset's loss_mask silences labels: a label counts where the mask is not 0 at the label's own token.
enum class LossMask : std::uint8_t { honoured, ignored };

/// This rank's rows of a pack, in host memory.
struct HostBatch {
  std::vector<std::int32_t> ids, labels;  ///< as Batch
  std::int64_t labelled = 0;              ///< tokens of this rank that have a label
};
/// Reads this rank's tokens, and the one behind each of its chunks, whose label it needs.
HostBatch read_batch(const DataMixture& data, const Pack& pack, const Sharding& sharding,
                     LossMask loss_mask = LossMask::honoured);

/// A pack as this rank computes on it.
struct PackOnRank {
  std::unique_ptr<Sharding> sharding;
  Tensor ids, labels;
  std::int64_t labelled = 0;
  Batch batch() const { return {ids, labels}; }
};
PackOnRank place_pack(const DataMixture& data, const Pack& pack, Layout layout, const Runtime& runtime,
                      LossMask loss_mask = LossMask::honoured);

Segments segments_of(const Pack& pack);

}  // namespace causeway

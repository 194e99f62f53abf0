#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "src/train/data/data_mixture.hpp"

namespace causeway {

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

}  // namespace causeway

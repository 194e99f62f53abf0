#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "io/data/dataset.hpp"
#include "io/data/packing.hpp"

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

}  // namespace causeway

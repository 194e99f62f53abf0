#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "io/data/dataset.hpp"

namespace causeway {

/// The mean loss of a dataset's labels by their weights, as training has it: Σ weight · loss / Σ weight, in nats. The
/// losses of all tokens are added in the dataset's order, some at a time.
class WeightedLoss {
 public:
  /// `data` must outlive this.
  explicit WeightedLoss(const Dataset& data) : data_(data) {}

  /// Element i is the loss of predicting token first + i + 1; not read at a document's last token.
  void add(std::int64_t first, std::span<const double> losses);
  /// Nothing if the dataset has neither a loss mask nor loss weights, or if all weights are 0.
  std::optional<double> mean() const;

 private:
  const Dataset& data_;
  std::int64_t document_ = 0;  // of the last token
  double loss_ = 0, weight_ = 0;
};

}  // namespace causeway

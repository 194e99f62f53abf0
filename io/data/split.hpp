#pragma once

#include <cstdint>
#include <string>

#include "io/data/dataset.hpp"

namespace causeway {

struct DatasetSplit {
  std::int64_t train_tokens = 0, train_documents = 0;
  std::int64_t valid_tokens = 0, valid_documents = 0;
  /// Nats a token at which the token frequencies of the first part, each count plus one, predict the second: the least
  /// a model has to beat.
  double unigram_loss = 0;
};

/// Copies the last `held_out` (0 to 1) of the corpus' tokens to a dataset of their own, `valid`, and what is before
/// them to `train`. The document the cut falls into is cut; its rest is named NAME:OFFSET. Empty documents are left
/// out. Either file appears whole or not at all. Throws Error(usage) where a part would be empty.
DatasetSplit split_dataset(const Dataset& data, double held_out, const std::string& train, const std::string& valid);

}  // namespace causeway

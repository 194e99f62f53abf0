#pragma once

#include <cstdint>
#include <string>

#include "io/data/dataset.hpp"

namespace causeway {

struct DatasetSplit {
  std::int64_t train_tokens = 0, train_documents = 0;
  std::int64_t valid_tokens = 0, valid_documents = 0;
  /// Cross entropy (nats per token) of the valid part under the token frequencies of the train part, each count plus
  /// one: the loss of a unigram model, which a trained model must be below.
  double unigram_loss = 0;
};

/// Copies the last part of the corpus (a fraction `held_out` of its tokens, between 0 and 1) to the dataset `valid`,
/// and the tokens before it to `train`. A document at the boundary is cut; its second part is named NAME:OFFSET. Empty
/// documents are not copied. Each file appears complete or not at all. Throws Error(usage) if a part would be empty.
DatasetSplit split_dataset(const Dataset& data, double held_out, const std::string& train, const std::string& valid);

}  // namespace causeway

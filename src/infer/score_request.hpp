#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"
#include "src/model/parameters/fp8_level.hpp"

namespace causeway {

/// One value of --embeddings, "LAYER[:mean|tokens]": the residual stream after `layer` blocks, one row for each
/// document (the mean over its tokens) or for each token.
struct EmbeddingRequest {
  std::int64_t layer = 0;
  bool mean = true;

  /// Every text may hold several requests with commas between them. Throws Error(usage) for a wrong text, a layer above
  /// `layers`, and a layer that is named twice, since a file has one table for a layer.
  static std::vector<EmbeddingRequest> parse(const std::vector<std::string>& texts, std::int64_t layers);
};

/// What scoring computes besides the log-likelihoods of the stored strand.
struct ScoreRequest {
  std::vector<EmbeddingRequest> embeddings;
  bool reverse_complement = false;  ///< also score the reverse complement of each document (src/infer/strand.hpp)
  std::vector<std::int32_t> probability_tokens;  ///< whose probabilities are stored for every position; maybe none
  hdf5::ElementType score_type = hdf5::f32;      ///< of the tokens' log-likelihoods
  hdf5::ElementType probability_type = hdf5::f32;
  Fp8Level fp8 = Fp8Level::off;  ///< of the products, an attribute of the file

  int strands() const { return reverse_complement ? 2 : 1; }
};

}  // namespace causeway

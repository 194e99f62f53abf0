#pragma once

#include <string>
#include <vector>

#include "io/data/dataset.hpp"

namespace causeway::testing {

/// A dataset's documents as "name=text".
using Documents = std::vector<std::string>;
inline Documents documents_in(const std::string& path) {
  const Dataset dataset(path);
  Documents documents;
  for (std::int64_t d = 0; d < dataset.documents(); ++d) {
    const std::int64_t begin = dataset.cu_seqlens()[static_cast<std::size_t>(d)],
                       end = dataset.cu_seqlens()[static_cast<std::size_t>(d) + 1];
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(end - begin));
    dataset.read_tokens(begin, tokens);
    documents.push_back(dataset.name(d) + "=" + std::string(tokens.begin(), tokens.end()));
  }
  return documents;
}

/// The weights of a dataset's tokens as labels.
inline std::vector<float> label_weights_in(const std::string& path) {
  const Dataset dataset(path);
  std::vector<float> weights(static_cast<std::size_t>(dataset.tokens()));
  dataset.read_label_weights(0, weights);
  return weights;
}

}  // namespace causeway::testing

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/data/packing.hpp"

namespace causeway {

/// The documents of one forward and backward pass.
struct StepPass {
  std::vector<std::int64_t> documents;  ///< their lengths
  /// 0: the documents follow each other. Otherwise each takes a row of this many tokens, of which those after its end
  /// are padding: they are computed, and have no loss.
  std::int64_t row_tokens = 0;

  std::int64_t tokens() const;  ///< of the documents
  std::int64_t places() const;  ///< that are computed: tokens and padding
  bool operator==(const StepPass&) const = default;
};

/// The lengths that a file has, one a line. Blank lines do not count. Throws Error(usage) that names `option`, the file
/// and the line where something else is found.
std::vector<std::int64_t> read_lengths(const std::string& path, std::string_view option);

/// Packs of documents with these lengths, which are repeated without an end. The packs at the start are skipped: a
/// policy with a window takes its longest documents first, and only later as many of each length as arrive. A document
/// longer than a pack is cut.
std::vector<StepPass> packs_of(const std::vector<std::int64_t>& lengths, const PackingOptions& packing,
                               std::int64_t packs);

/// The same documents, each in a pass of its own.
std::vector<StepPass> one_at_a_time(const std::vector<StepPass>& packs);

/// The same documents padded to the longest one of all: each pass has as many rows as fit into `most_tokens`, at least
/// one.
std::vector<StepPass> padded(const std::vector<StepPass>& packs, std::int64_t most_tokens);

/// Sums over passes.
struct StepCount {
  std::int64_t passes = 0, documents = 0, tokens = 0, places = 0;
  StepCount& operator+=(const StepCount& other);
};
StepCount count_of(const std::vector<StepPass>& passes);

}  // namespace causeway

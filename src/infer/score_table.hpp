#pragma once

#include <string>

#include "io/data/dataset.hpp"
#include "io/results/table_file.hpp"
#include "src/infer/score_file.hpp"

namespace causeway {

/// A table of documents in a TSV file: name, tokens, log_likelihood (in nats), per_token (log_likelihood over the
/// tokens that have a score) and perplexity, exp(-per_token); with both strands also log_likelihood_forward and
/// log_likelihood_reverse. A document of fewer than two tokens has no score: its cells for per_token and perplexity are
/// empty. Names are escaped as in io/results/table_file.hpp.
class ScoreTable {
 public:
  /// Creates the temporary file, so that a path that cannot be written is found before anything is computed.
  explicit ScoreTable(const std::string& path);
  /// Writes the rows, and renames the file to its final name. Reads all names of the dataset.
  void write(const Dataset& data, const DocumentScores& scores);

 private:
  TableFile file_;
};

/// Throws Error(usage) if a file is at `path` that a ScoreTable did not write. An empty file holds nothing.
void require_earlier_table(const std::string& path);

}  // namespace causeway

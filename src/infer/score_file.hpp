#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/data/dataset.hpp"
#include "io/file/atomic_file.hpp"
#include "io/hdf5/hdf5.hpp"
#include "src/infer/score_request.hpp"
#include "src/infer/strand.hpp"
#include "src/infer/weighted_loss.hpp"

namespace causeway {

/// The log-likelihoods of all documents, in nats.
struct DocumentScores {
  std::vector<double> log_likelihood;    ///< of the stored strand; with both strands the mean of the two
  std::vector<double> forward, reverse;  ///< of each strand; empty unless both are scored
};

/// Writes scores.h5 (format: src/infer/README.md). The rows of all tokens are added in the dataset's order, some at a
/// time. The file appears under its name when it is complete.
class ScoreFile {
 public:
  static constexpr const char* format = "causeway-scores";  ///< the root's attribute `format`

  /// `width` is the number of channels of an embedding. `data` must outlive the file.
  ScoreFile(const std::string& path, const Dataset& data, ScoreRequest request, std::int64_t width);

  /// Adds the losses of a strand's tokens from number `first` on. Element i is the loss of predicting the token after
  /// it; 0 at a document's last token. A document's first token has no score: NaN. Scores of the reverse strand are
  /// stored at the tokens that are opposite.
  void add_losses(Strand strand, std::int64_t first, std::span<const double> losses);
  /// Adds the residual stream [tokens, width] of request number `request` of the tokens from number `first` on.
  void add_embeddings(std::size_t request, std::int64_t first, std::span<const float> values);
  /// Adds the probabilities [tokens, probability_tokens] of what comes after the tokens from number `first` on. They
  /// are stored at the token after; a document's first token has NaN.
  void add_probabilities(std::int64_t first, std::span<const float> values);
  /// Writes the values that are known only after all tokens are added, and renames the file to its final name.
  void finish();

  DocumentScores documents() const;
  std::optional<double> weighted_loss() const { return weighted_loss_.mean(); }  ///< of the forward strand

 private:
  /// What is known of a strand when some of its tokens are added.
  struct StrandScores {
    hdf5::Dataset tokens;
    std::vector<double> documents;  // log-likelihood so far
    std::int64_t document = 0;      // of the last token
    double last_loss = 0;           // of the token before
  };
  struct Embedding {
    EmbeddingRequest request;
    hdf5::Dataset rows;
    std::vector<double> sum;  // over the current document's tokens so far
    std::int64_t document = 0;
  };
  struct Probabilities {
    hdf5::Dataset rows;
    std::vector<float> last;  // of the token before
    std::int64_t document = 0;
  };

  static hdf5::DatasetOptions rows_of(std::int64_t rows, std::int64_t columns, hdf5::ElementType type);
  void write_names();
  void create_embeddings(std::int64_t width);
  void create_probabilities();
  /// Writes the scores of tokens `first`, … of the reverse strand to the tokens opposite.
  void write_opposite(std::int64_t first, std::span<const double> scores);
  StrandScores& of(Strand strand) { return strands_[strand == Strand::forward ? 0 : 1]; }
  /// Moves `document` on to the one that contains the token; whether the token is its first.
  bool advance_to(std::int64_t token, std::int64_t& document) const;

  AtomicFile target_;
  hdf5::File file_;
  const Dataset& data_;
  ScoreRequest request_;
  std::vector<StrandScores> strands_;  // forward, reverse
  std::vector<Embedding> embeddings_;
  Probabilities probabilities_;
  WeightedLoss weighted_loss_;
};

}  // namespace causeway

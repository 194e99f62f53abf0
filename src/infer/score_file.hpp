#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/data/dataset.hpp"
#include "io/file/atomic_file.hpp"
#include "io/hdf5/hdf5.hpp"

namespace causeway {

/// The value of --embeddings, "LAYER[:mean|tokens]": the residual stream after `layer` blocks, one row for each
/// document (the mean over its tokens) or for each token.
struct EmbeddingRequest {
  std::int64_t layer = 0;
  bool mean = true;

  /// No value for an empty text. Throws Error(usage) for a wrong text or a layer above `layers`.
  static std::optional<EmbeddingRequest> parse(const std::string& text, std::int64_t layers);
};

/// Writes scores.h5. The rows of all tokens are added in the dataset's order, some at a time. The file appears under
/// its name when it is complete.
class ScoreFile {
 public:
  static constexpr const char* format = "causeway-scores";  ///< the root's attribute `format`

  /// `width` is the number of channels of an embedding. `data` must outlive the file.
  ScoreFile(const std::string& path, const Dataset& data, std::optional<EmbeddingRequest> embeddings,
            std::int64_t width);

  /// Adds the losses of the tokens from number `first` on. Element i is the loss of predicting the token after it; 0 at
  /// a document's last token. A document's first token has no score: NaN.
  void add_losses(std::int64_t first, std::span<const double> losses);
  /// Adds the residual stream [tokens, width] of the tokens from number `first` on.
  void add_embeddings(std::int64_t first, std::span<const float> values);
  /// Writes the values that are known only after all tokens are added, and renames the file to its final name.
  void finish();

  double total() const;  ///< the log-likelihood of all documents, in nats

 private:
  static hdf5::DatasetOptions rows_of(std::int64_t rows, std::int64_t columns, hdf5::ElementType type);
  void write_names();
  /// Moves `document` on to the one that contains the token.
  void advance_to(std::int64_t token, std::int64_t& document) const;

  AtomicFile target_;
  hdf5::File file_;
  const Dataset& data_;
  std::optional<EmbeddingRequest> embeddings_;
  std::int64_t width_;
  hdf5::Dataset token_scores_, embedding_rows_;
  std::vector<double> documents_;  // log-likelihood so far
  std::vector<double> sum_;        // of the embeddings of the current document's tokens
  std::int64_t document_of_losses_ = 0, document_of_embeddings_ = 0;
  double last_loss_ = 0;  // of the token before
};

}  // namespace causeway

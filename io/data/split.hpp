#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/atomic_file.hpp"

namespace causeway {

struct SplitOptions {
  std::string train, valid;     ///< the datasets to write
  std::string test;             ///< a third part, as large as `valid`; empty: none
  double held_out = 0.1;        ///< fraction of the tokens for `valid`, and as much for `test`; between 0 and 1
  std::string by = "document";  ///< "document": whole documents, drawn by the seed; "tail": the last tokens
  std::int64_t seed = 0;
  bool force = false;  ///< replaces existing files
  std::function<void(std::int64_t tokens_done, std::int64_t tokens)> progress;

  Existing existing() const { return force ? Existing::replaced : Existing::refused; }
};

/// One part, in the order train, valid, test.
struct SplitPart {
  std::string_view name;
  std::string path;
  std::int64_t documents = 0, tokens = 0;
  double asked = 0;  ///< fraction of the tokens
  /// The loss of a unigram model on a held-out part, which a trained model must be below: cross entropy (nats per
  /// token) under the token frequencies of the train part, each count plus one. Labels count by their weight. No value
  /// for the train part, and if the part has no label.
  std::optional<double> unigram_loss;
};

struct DatasetSplit {
  std::vector<SplitPart> parts;
  std::int64_t tokens = 0;           ///< of all parts
  std::int64_t empty_documents = 0;  ///< they are in no part
  std::int64_t latin1_names = 0;     ///< names that were not UTF-8, as older versions stored them; the parts' are
};

/// Divides a dataset into two or three, whose documents keep their order.
///
/// By document: goes through the documents in an order drawn by the seed. Each goes to `valid` if that brings its
/// tokens nearer to the fraction, else to `test` likewise, else to `train`; the last ones to parts that have none. So
/// the fractions are met as well as whole documents allow, and a document longer than twice a part is in `train`. By
/// tail: `train` is the first part of the tokens, then `valid`, then `test`. A document at a boundary is cut; its
/// second part is named NAME:OFFSET.
///
/// The files appear complete, all or none. Throws Error(usage) if a part would be empty, if a path is an input or given
/// twice, and for an existing file without `force`; Error(corrupt) for damaged data and names.
DatasetSplit split_dataset(const std::string& path, const SplitOptions& options);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "io/data/dataset.hpp"
#include "io/file/atomic_file.hpp"

namespace causeway {

/// Writes a dataset document by document, in bounded memory. finish() makes the file appear at `path`; without finish()
/// no file is left.
class DatasetWriter {
 public:
  DatasetWriter(const std::string& path, std::int64_t vocabulary_size, const std::string& source, LabelLists lists = {},
                Existing existing = Existing::replaced);
  ~DatasetWriter();
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;

  /// For each document: one begin_document(), then any number of append(), with a value for each token for every list
  /// that the dataset has. Throws Error(usage) for a token of the vocabulary's size or more, and for a weight that is
  /// not in [0, 1].
  void begin_document(const std::string& name);
  void append(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> loss_mask = {},
              std::span<const float> loss_weights = {});
  void finish();
  /// The two halves of finish(), for several datasets that appear together: everything is written and on the disk; then
  /// the file gets its name.
  void complete();
  void publish();

  std::int64_t documents() const;
  std::int64_t tokens() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace causeway

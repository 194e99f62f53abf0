#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace causeway {

/// A tokenised corpus on disk (data.h5): `/tokens` u16 or u32 [T], `/cu_seqlens` i64 [S+1], `/names` [S], optional
/// `/loss_mask` u8 [T], `/statistics/length_histogram`, and attributes of the root (format: io/data/README.md). The
/// file is not trusted: errors name file and dataset, Error(usage) for a wrong form and Error(corrupt) for damage.
/// Keeps cu_seqlens in memory; tokens are read on demand.
class Dataset {
 public:
  explicit Dataset(const std::string& path);
  ~Dataset();
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;

  const std::string& path() const;
  std::int64_t documents() const;
  std::int64_t tokens() const;
  std::int64_t vocabulary_size() const;
  bool has_loss_mask() const;
  std::span<const std::int64_t> cu_seqlens() const;
  std::string name(std::int64_t document) const;

  /// Tokens [begin, begin + out.size()) of the corpus. Throws Error(corrupt) for a token that is not below
  /// vocabulary_size().
  void read_tokens(std::int64_t begin, std::span<std::int32_t> out) const;
  void read_loss_mask(std::int64_t begin, std::span<std::uint8_t> out) const;
  /// Reads the whole dataset once. Throws Error(corrupt) for a wrong checksum or token.
  void verify() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Writes a dataset document by document, in bounded memory. finish() makes the file appear at `path`; without finish()
/// no file is left.
class DatasetWriter {
 public:
  DatasetWriter(const std::string& path, std::int64_t vocabulary_size, const std::string& source, bool with_loss_mask);
  ~DatasetWriter();
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;

  /// For each document: one begin_document(), then any number of append().
  void begin_document(const std::string& name);
  void append(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> loss_mask = {});
  void finish();

  std::int64_t documents() const;
  std::int64_t tokens() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace causeway

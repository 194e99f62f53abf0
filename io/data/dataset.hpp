#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace causeway {

/// A tokenised corpus on disk (data.h5): `/tokens` u16 or u32, `/cu_seqlens` i64 [S+1], `/names`, optional `/loss_mask`
/// u8,
/// `/statistics/length_histogram`, root attributes format = "causeway-dataset", version, vocabulary_size, …
/// (io/README.md). Everything in the file is checked before it is believed; errors name file and dataset, Error(usage)
/// where the form is wrong and Error(corrupt) where bytes are damaged. A rank holds cu_seqlens and reads only the
/// tokens it asks for.
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

  /// Tokens [begin, begin + out.size()) of the whole corpus; throws Error(corrupt) where one is not below
  /// vocabulary_size.
  void read_tokens(std::int64_t begin, std::span<std::int32_t> out) const;
  void read_loss_mask(std::int64_t begin, std::span<std::uint8_t> out) const;
  /// Reads everything once: throws Error(corrupt) where a checksum or a token is wrong.
  void verify() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Writes a dataset a document at a time with bounded memory: into `path`.tmp-…, renamed by finish(); without finish()
/// nothing is left behind.
class DatasetWriter {
 public:
  DatasetWriter(const std::string& path, std::int64_t vocabulary_size, const std::string& source, bool with_loss_mask);
  ~DatasetWriter();
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;

  /// A document arrives in parts: begin, any number of appends, begin of the next.
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

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace causeway {

/// The optional lists of a dataset, which have a value for each token.
struct LabelLists {
  bool loss_mask = false, loss_weights = false;
};

/// A tokenised corpus on disk (data.h5): `/tokens` u16 or u32 [T], `/cu_seqlens` i64 [S+1], `/names` [S], optional
/// `/loss_mask` u8 [T] and `/loss_weight` f32 [T], `/statistics/length_histogram`, and attributes of the root (format:
/// io/data/README.md). The file is not trusted: errors name file and dataset, Error(usage) for a wrong form and
/// Error(corrupt) for damage.
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
  bool has_loss_weights() const;
  LabelLists label_lists() const { return {has_loss_mask(), has_loss_weights()}; }
  std::span<const std::int64_t> cu_seqlens() const;
  /// Names are checked only by a NameReader (io/data/name_reader.hpp), which reads all of them.
  std::string name(std::int64_t document) const;
  std::vector<std::string> names(std::int64_t begin, std::int64_t count) const;
  std::optional<std::int64_t> stored_names_checksum() const;

  /// The attribute `identity` (io/data/identity.hpp), which import and split write. Nothing if the file has none.
  std::optional<std::string> stated_identity() const;

  /// Tokens [begin, begin + out.size()) of the corpus. Throws Error(corrupt) for a token that is not below
  /// vocabulary_size().
  void read_tokens(std::int64_t begin, std::span<std::int32_t> out) const;
  /// 0: the token is not a label. numpy's bool, which h5py writes as an enumeration, is read as 0 and 1.
  void read_loss_mask(std::int64_t begin, std::span<std::uint8_t> out) const;
  /// Values of /loss_weight. Throws Error(usage) for one that is not in [0, 1].
  void read_loss_weights(std::int64_t begin, std::span<float> out) const;
  /// The weight of each token as a label: /loss_weight, or 1 without it, and 0 where /loss_mask is 0.
  void read_label_weights(std::int64_t begin, std::span<float> out) const;
  /// Reads everything in the file: every dataset and attribute, known or not. Throws Error(corrupt) for a wrong
  /// checksum or token, and for attributes and statistics that do not fit the documents. Returns a line for each object
  /// that could not be checked, with the reason, and one for names that are not UTF-8.
  /// `read`, if given, is called with the number of tokens read so far.
  std::vector<std::string> verify(const std::function<void(std::int64_t tokens)>& read = {}) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The bin of a document's length: bin 0 is for empty documents, bin k for lengths in [2^(k-1), 2^k).
std::size_t histogram_bin(std::int64_t length);

/// How a dataset stores a name: bytes that are not UTF-8 are taken as Latin-1, a NUL becomes '?'.
std::string stored_name(const std::string& name);

}  // namespace causeway

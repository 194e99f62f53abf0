#include <algorithm>
#include <filesystem>
#include <memory>

#include "io/data/readers/array_format.hpp"
#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

using namespace std::string_view_literals;

// NAME.idx (Megatron-LM, megatron/core/datasets/indexed_dataset.py), little-endian, without padding.
constexpr std::string_view magic = "MMIDIDX\0\0"sv, fairseq_magic = "TNTIDX\0\0"sv;
constexpr std::int64_t version_at = 9, type_at = 17, sequences_at = 18, documents_at = 26, lists_at = 34;

/// NAME of NAME.idx, NAME.bin or NAME.
std::string name_of(const std::string& path) {
  return path.ends_with(".idx") || path.ends_with(".bin") ? path.substr(0, path.size() - 4) : path;
}

NumberType type_of(std::int64_t code, const std::string& path) {
  using Kind = NumberType::Kind;
  constexpr std::pair<Kind, int> types[] = {
      {Kind::unsigned_integer, 1}, {Kind::signed_integer, 1}, {Kind::signed_integer, 2}, {Kind::signed_integer, 4},
      {Kind::signed_integer, 8},   {Kind::floating, 8},       {Kind::floating, 4},       {Kind::unsigned_integer, 2}};
  require(code >= 1 && code <= std::ssize(types), "{}: has type code {}, expected 1 to {}", path, code,
          std::ssize(types));
  const auto [kind, bytes] = types[code - 1];
  const NumberType type{.kind = kind, .bytes = bytes};
  require(type.is_integer(), "{}: its tokens are {} (type code {}), expected integers", path, type.to_string(), code);
  return type;
}

/// The index, checked against the sizes of both files.
struct Index {
  std::int64_t sequences = 0, documents = 0;
  NumberType type;
  NumberArray lengths, offsets, document_starts;

  explicit Index(const ByteSource& file) {
    const std::string& path = file.path();
    const std::string start = file.text(0, std::min(file.size(), lists_at));
    require(!start.starts_with(fairseq_magic),
            "{}: is an index of fairseq (TNTIDX), expected one of Megatron-LM (MMIDIDX); convert it with Megatron-LM's "
            "preprocess_data.py",
            path);
    require(start.starts_with(magic), "{}: does not start as an index of Megatron-LM does (MMIDIDX)", path);
    require(file.size() >= lists_at, "{}: has {} bytes, expected a header of {}", path, file.size(), lists_at);
    const NumberType u8{.bytes = 1}, u64{.bytes = 8}, i32{NumberType::Kind::signed_integer, 4},
        i64{NumberType::Kind::signed_integer, 8};
    const auto number = [&](std::int64_t at, NumberType of) {
      return NumberArray(file, at, 1, of, "its header").at(0);
    };
    require(number(version_at, u64) == 1, "{}: has version {}, expected 1", path, number(version_at, u64));
    type = type_of(number(type_at, u8), path);
    sequences = number(sequences_at, u64);
    const std::int64_t starts = number(documents_at, u64), held = file.size() - lists_at;
    require(sequences <= held / 12 && starts <= held / 8,
            "{}: names {} sequences and {} document boundaries, more than "
            "its {} bytes can hold",
            path, sequences, starts, file.size());
    const std::int64_t expected = 12 * sequences + 8 * starts;
    require(held == expected || held == expected + sequences,
            "{}: has {} bytes, expected {} for {} sequences and {} document boundaries, or {} with modes", path,
            file.size(), lists_at + expected, sequences, starts, lists_at + expected + sequences);
    lengths = NumberArray(file, lists_at, sequences, i32, "sequence lengths");
    offsets = NumberArray(file, lists_at + 4 * sequences, sequences, i64, "sequence offsets");
    document_starts = NumberArray(file, lists_at + 12 * sequences, starts, i64, "document index");
    require_boundaries(document_starts, sequences);
    documents = starts - 1;
  }
};

ArrayFiles find(const std::string& path) {
  const std::string name = name_of(path);
  for (const char* const ending : {".bin", ".idx"})
    require(is_there(name + ending), "{}{}: {}; a dataset of Megatron-LM is NAME.idx and NAME.bin", name, ending,
            why_missing(name + ending));
  return {.paths = {name + ".bin", name + ".idx"}};
}

/// The tokens of a sequence, as its offset says.
NumberArray sequence_of(const Index& index, const ByteSource& bin, std::int64_t sequence) {
  const std::int64_t length = index.lengths.at(sequence), offset = index.offsets.at(sequence);
  require(length >= 0, "{}: sequence {} has {} tokens, expected 0 or more", index.lengths.where(), sequence, length);
  require(offset >= 0 && offset <= bin.size() && length <= (bin.size() - offset) / index.type.bytes,
          "{}: sequence {} is {} tokens of {} bytes from byte {} on, expected them within the {} bytes of {}",
          index.offsets.where(), sequence, length, index.type.bytes, offset, bin.size(), bin.path());
  return {bin, offset, length, index.type, "its tokens"};
}

void read(const std::string& path, DocumentSink& out, const std::function<void(std::int64_t)>& progress) {
  const std::string name = name_of(path), shown = std::filesystem::path(name).filename().string();
  const ByteSource idx(name + ".idx"), bin(name + ".bin");
  const Index index(idx);
  std::int64_t bytes = 0;
  const auto appended = [&](std::int64_t tokens) {
    bytes += tokens * index.type.bytes;
    progress(std::min(bytes, bin.size()));  // sequences may share bytes
  };
  for (std::int64_t document = 0; document < index.documents; ++document) {
    out.begin(fmt::format("{}:{}", shown, document));
    const std::int64_t end = index.document_starts.at(document + 1);
    std::int64_t position = 0;
    out.accepts([&] {
      for (std::int64_t sequence = index.document_starts.at(document); sequence < end; ++sequence) {
        const NumberArray tokens = sequence_of(index, bin, sequence);
        append_ids(tokens, {.count = tokens.size(), .document = document, .position = position}, nullptr, out,
                   appended);
        position += tokens.size();
      }
    });
    out.end();
  }
  progress(bin.size());
  out.require_vocabulary();
}

}  // namespace

const ArrayFormat megatron_format = {find, read};

}  // namespace causeway

#include "io/data/dataset.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>

#include "io/data/identity.hpp"
#include "io/data/name_reader.hpp"
#include "io/file/look_up.hpp"
#include "io/file/utf8.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/segments.hpp"

namespace causeway {
namespace {

constexpr const char* format_name = "causeway-dataset";
constexpr std::int64_t format_version = 1;
constexpr std::int64_t largest_vocabulary = std::int64_t{1} << 31;
constexpr std::int64_t u16_vocabulary = 65536;

/// A chunk is 128 KiB of 16-bit tokens: small enough that a reader of one pack inflates few other tokens, large enough
/// to compress well.
constexpr std::int64_t chunk_tokens = 65536;
constexpr std::int64_t chunk_documents = 4096;
constexpr int deflate_level = 1;  // level 6 takes 5 times as long and saves 3 % of the bytes of tokens

/// Opens a one-dimensional dataset.
hdf5::Dataset open_list(const hdf5::File& file, const char* name) {
  hdf5::Dataset list = file.dataset(name);
  require(list.shape().size() == 1, "{}: has {} dimensions, expected 1", list.where(), list.shape().size());
  return list;
}

/// Refuses what users give instead of a dataset, with what they have to do.
void require_dataset_file(const std::string& path) {
  namespace fs = std::filesystem;
  if (kind_of(path) == fs::file_type::directory) {
    const auto has = [&](const char* name) { return is_there((fs::path(path) / name).string()); };
    require(!has("latest") && !has("index.h5") && !has("config.ini"),
            "{}: is the folder of a run or a checkpoint, expected a dataset, a file that causeway import writes", path);
  }
  const fs::path name = fs::path(path).filename(),
                 stem = name.extension() == ".gz" || name.extension() == ".GZ" ? name.stem() : name;
  if (require_file(path) != fs::file_type::regular || name.extension() == ".h5" || hdf5::is_hdf5(path)) return;
  fail(ExitCode::usage,
       "{}: is not a dataset (HDF5); make one of it with: causeway import {}{} --out {}.h5, which reads FASTA, FASTQ, "
       "text, "
       "JSONL and token ids",
       path, path, stem.has_extension() ? "" : " --format FORMAT", stem.stem().string());
}

}  // namespace

struct Dataset::State {
  std::string path;
  hdf5::File file;
  hdf5::Dataset tokens, names, loss_mask;
  bool has_loss_mask = false;
  std::int64_t vocabulary_size = 0;
  std::vector<std::int64_t> cu_seqlens;

  void check_range(const hdf5::Dataset& from, std::int64_t begin, std::size_t count) const {
    const std::int64_t all = cu_seqlens.back();
    require(begin >= 0 && begin <= all && static_cast<std::int64_t>(count) <= all - begin,
            "{}: has {} values, expected {} from value {} on", from.where(), all, count, begin);
  }
};

Dataset::Dataset(const std::string& path) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.path = path;
  require_dataset_file(path);
  state.file = hdf5::File::open(path, hdf5::Access::read);
  const hdf5::File& file = state.file;
  require(file.has_attribute("format") && file.string_attribute("format") == format_name,
          "{}: is not a dataset, expected attribute format = {}, as causeway import writes it, found {}", path,
          format_name, file.has_attribute("format") ? fmt::format("'{}'", file.string_attribute("format")) : "none");
  const std::int64_t version = file.integer_attribute("version");
  require(version == format_version, "{}: has version {}, expected {}", path, version, format_version);
  state.vocabulary_size = file.integer_attribute("vocabulary_size");
  require(state.vocabulary_size >= 1 && state.vocabulary_size <= largest_vocabulary,
          "{}: vocabulary_size is {}, expected 1 to {}", path, state.vocabulary_size, largest_vocabulary);

  state.tokens = open_list(file, "tokens");
  const hdf5::ElementType type = state.tokens.type();
  require(type == hdf5::u16 || type == hdf5::u32, "{}: holds {}, expected u16 or u32", state.tokens.where(),
          type.to_string());
  const std::int64_t tokens = state.tokens.rows();

  const hdf5::Dataset boundaries = open_list(file, "cu_seqlens");
  state.cu_seqlens = boundaries.read_all<std::int64_t>(boundaries.rows());
  const auto& cu_seqlens = state.cu_seqlens;
  require_documents_in_order(cu_seqlens, boundaries.where());
  require(cu_seqlens.back() == tokens, "{}: has {} values, expected {} as the last value of /cu_seqlens",
          state.tokens.where(), tokens, cu_seqlens.back());

  state.names = open_list(file, "names");
  require(state.names.type().kind == hdf5::ElementType::Kind::string, "{}: holds {}, expected strings",
          state.names.where(), state.names.type().to_string());
  require(state.names.rows() == documents(), "{}: has {} names, expected {} for the documents in /cu_seqlens",
          state.names.where(), state.names.rows(), documents());

  state.has_loss_mask = file.exists("loss_mask");
  if (state.has_loss_mask) {
    state.loss_mask = open_list(file, "loss_mask");
    require(state.loss_mask.type() == hdf5::u8, "{}: holds {}, expected u8", state.loss_mask.where(),
            state.loss_mask.type().to_string());
    require(state.loss_mask.rows() == tokens, "{}: has {} values, expected {} as in /tokens", state.loss_mask.where(),
            state.loss_mask.rows(), tokens);
  }
}

Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;

const std::string& Dataset::path() const { return state_->path; }
std::int64_t Dataset::documents() const { return static_cast<std::int64_t>(state_->cu_seqlens.size()) - 1; }
std::int64_t Dataset::tokens() const { return state_->cu_seqlens.back(); }
std::int64_t Dataset::vocabulary_size() const { return state_->vocabulary_size; }
bool Dataset::has_loss_mask() const { return state_->has_loss_mask; }
std::span<const std::int64_t> Dataset::cu_seqlens() const { return state_->cu_seqlens; }

std::string Dataset::name(std::int64_t document) const {
  require(document >= 0 && document < documents(), "{}: has {} names, expected number {}", state_->names.where(),
          documents(), document);
  return names(document, 1).front();
}

std::vector<std::string> Dataset::names(std::int64_t begin, std::int64_t count) const {
  return state_->names.read_strings(begin, count);
}

std::optional<std::int64_t> Dataset::stored_names_checksum() const {
  if (!state_->names.has_attribute("crc32")) return std::nullopt;
  return state_->names.integer_attribute("crc32");
}

std::optional<std::string> Dataset::stated_identity() const {
  if (!state_->file.has_attribute("identity")) return std::nullopt;
  return state_->file.string_attribute("identity");
}

void Dataset::read_tokens(std::int64_t begin, std::span<std::int32_t> out) const {
  state_->check_range(state_->tokens, begin, out.size());
  state_->tokens.read_rows(begin, out);
  for (std::size_t t = 0; t < out.size(); ++t)
    if (out[t] < 0 || out[t] >= state_->vocabulary_size)
      fail(ExitCode::corrupt, "{}: value {} is {}, expected less than vocabulary_size {}", state_->tokens.where(),
           begin + static_cast<std::int64_t>(t), out[t], state_->vocabulary_size);
}

void Dataset::read_loss_mask(std::int64_t begin, std::span<std::uint8_t> out) const {
  require(has_loss_mask(), "{}:/loss_mask: is missing", path());
  state_->check_range(state_->loss_mask, begin, out.size());
  state_->loss_mask.read_rows(begin, out);
}

std::size_t histogram_bin(std::int64_t length) {
  return static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(length)));
}

struct DatasetWriter::State {
  AtomicFile target;
  std::int64_t vocabulary_size;
  bool with_loss_mask;
  hdf5::File file;
  hdf5::Dataset tokens, loss_mask, cu_seqlens, names;

  std::vector<std::int32_t> pending_tokens;
  std::vector<std::uint8_t> pending_mask;
  std::vector<std::int64_t> pending_ends;
  std::vector<std::string> pending_names;
  std::int64_t written_tokens = 0, written_ends = 0, written_names = 0;
  std::uint32_t names_checksum = 0;
  IdentityDigest identity;

  std::int64_t document_count = 0, document_start = 0;
  std::int64_t shortest = 0, longest = 0;
  std::array<std::int64_t, 65> histogram{};

  State(const std::string& path, std::int64_t vocabulary, bool mask, Existing existing)
      : target(path, existing), vocabulary_size(vocabulary), with_loss_mask(mask), identity(mask) {}

  std::int64_t token_count() const { return written_tokens + static_cast<std::int64_t>(pending_tokens.size()); }
  /// Adds the end of the current document.
  void end_document() {
    if (document_count == 0) return;
    const std::int64_t length = token_count() - document_start;
    shortest = document_count == 1 ? length : std::min(shortest, length);
    longest = std::max(longest, length);
    ++histogram[histogram_bin(length)];
    pending_ends.push_back(token_count());
    if (static_cast<std::int64_t>(pending_ends.size()) == chunk_documents) flush_ends();
  }
  void flush_tokens() {
    const std::int64_t end = token_count();
    tokens.extend(end);
    tokens.write_rows<std::int32_t>(written_tokens, pending_tokens);
    identity.add_tokens(pending_tokens);
    if (with_loss_mask) {
      loss_mask.extend(end);
      loss_mask.write_rows<std::uint8_t>(written_tokens, pending_mask);
      identity.add_loss_mask(pending_mask);
    }
    written_tokens = end;
    pending_tokens.clear();
    pending_mask.clear();
  }
  void flush_ends() {
    cu_seqlens.extend(written_ends + static_cast<std::int64_t>(pending_ends.size()));
    cu_seqlens.write_rows<std::int64_t>(written_ends, pending_ends);
    identity.add_boundaries(pending_ends);
    written_ends += static_cast<std::int64_t>(pending_ends.size());
    pending_ends.clear();
  }
  void flush_names() {
    names.extend(written_names + static_cast<std::int64_t>(pending_names.size()));
    names.write_strings(written_names, pending_names);
    written_names += static_cast<std::int64_t>(pending_names.size());
    pending_names.clear();
  }
};

DatasetWriter::DatasetWriter(const std::string& path, std::int64_t vocabulary_size, const std::string& source,
                             bool with_loss_mask, Existing existing) {
  require(vocabulary_size >= 1 && vocabulary_size <= largest_vocabulary, "vocabulary size is {}, expected 1 to {}",
          vocabulary_size, largest_vocabulary);
  state_ = std::make_unique<State>(path, vocabulary_size, with_loss_mask, existing);
  State& state = *state_;
  state.file = hdf5::File::open(state.target.temporary(), hdf5::Access::create);
  const auto list = [&](const char* name, hdf5::ElementType type, std::int64_t chunk) {
    // HDF5 has no checksum for strings: they are on its heap, where filters do not apply. NameReader uses `crc32`
    // instead.
    return state.file.create_dataset(name, {.shape = {0},
                                            .type = type,
                                            .chunk_rows = chunk,
                                            .shuffle = true,
                                            .deflate = deflate_level,
                                            .fletcher32 = type != hdf5::string});
  };
  state.tokens = list("tokens", vocabulary_size <= u16_vocabulary ? hdf5::u16 : hdf5::u32, chunk_tokens);
  if (with_loss_mask) state.loss_mask = list("loss_mask", hdf5::u8, chunk_tokens);
  state.cu_seqlens = list("cu_seqlens", hdf5::i64, chunk_documents);
  state.names = list("names", hdf5::string, chunk_documents);
  state.file.set_attribute("source", source);
  state.pending_ends.push_back(0);
}

DatasetWriter::~DatasetWriter() = default;

void DatasetWriter::begin_document(const std::string& name) {
  State& state = *state_;
  state.end_document();
  ++state.document_count;
  state.document_start = state.token_count();
  std::string text = stored_name(name);
  state.names_checksum = names_checksum(state.names_checksum, text);
  state.pending_names.push_back(std::move(text));
  if (static_cast<std::int64_t>(state.pending_names.size()) == chunk_documents) state.flush_names();
}

void DatasetWriter::append(std::span<const std::int32_t> tokens, std::span<const std::uint8_t> loss_mask) {
  State& state = *state_;
  ensure(state.document_count > 0, "append() before the first begin_document()");
  ensure(loss_mask.size() == (state.with_loss_mask ? tokens.size() : 0), "{} loss mask values for {} tokens",
         loss_mask.size(), tokens.size());
  while (!tokens.empty()) {
    const std::size_t free_tokens = static_cast<std::size_t>(chunk_tokens) - state.pending_tokens.size(),
                      count = std::min(free_tokens, tokens.size());
    for (const std::int32_t token : tokens.first(count))
      require(token >= 0 && token < state.vocabulary_size,
              "token {} of document {}, expected less than the vocabulary's {}", token, state.document_count - 1,
              state.vocabulary_size);
    state.pending_tokens.insert(state.pending_tokens.end(), tokens.begin(),
                                tokens.begin() + static_cast<std::ptrdiff_t>(count));
    tokens = tokens.subspan(count);
    if (state.with_loss_mask) {
      state.pending_mask.insert(state.pending_mask.end(), loss_mask.begin(),
                                loss_mask.begin() + static_cast<std::ptrdiff_t>(count));
      loss_mask = loss_mask.subspan(count);
    }
    if (static_cast<std::int64_t>(state.pending_tokens.size()) == chunk_tokens) state.flush_tokens();
  }
}

std::string stored_name(const std::string& name) {
  std::string text = as_utf8(name);
  std::replace(text.begin(), text.end(), '\0', '?');  // HDF5's strings end at a NUL
  return text;
}

void DatasetWriter::finish() {
  complete();
  publish();
}

void DatasetWriter::publish() { state_->target.publish(); }

void DatasetWriter::complete() {
  State& state = *state_;
  state.end_document();
  state.flush_tokens();
  state.flush_ends();
  state.flush_names();
  const std::size_t bins = state.document_count == 0 ? 1 : histogram_bin(state.longest) + 1;
  state.file
      .write<std::int64_t>("statistics/length_histogram", {static_cast<std::int64_t>(bins)},
                           std::span(state.histogram).first(bins))
      .set_attribute("bins", std::string("bin 0: empty documents; bin k: 2^(k-1) <= length < 2^k"));
  state.names.set_attribute("crc32", static_cast<std::int64_t>(state.names_checksum));
  state.file.set_attribute("identity", state.identity.finish());
  state.file.set_attribute("format", std::string(format_name));
  state.file.set_attribute("version", format_version);
  state.file.set_attribute("vocabulary_size", state.vocabulary_size);
  state.file.set_attribute("documents", documents());
  state.file.set_attribute("tokens", tokens());
  state.file.set_attribute("min_length", state.shortest);
  state.file.set_attribute("max_length", state.longest);
  state.file.set_attribute("mean_length",
                           documents() == 0 ? 0.0 : static_cast<double>(tokens()) / static_cast<double>(documents()));
  for (hdf5::Dataset* dataset : {&state.tokens, &state.loss_mask, &state.cu_seqlens, &state.names}) *dataset = {};
  state.file.close();
  state.target.sync();
}

std::int64_t DatasetWriter::documents() const { return state_->document_count; }
std::int64_t DatasetWriter::tokens() const { return state_->token_count(); }

}  // namespace causeway

#include "io/data/dataset.hpp"

#include <algorithm>
#include <bit>
#include <filesystem>

#include "io/data/dataset_format.hpp"
#include "io/file/compression/compression.hpp"
#include "io/file/look_up.hpp"
#include "io/file/utf8.hpp"
#include "io/hdf5/hdf5.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/segments.hpp"

namespace causeway {
namespace {

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
  const fs::path name = fs::path(path).filename(), stem = without_compression_ending(name.string());
  if (require_file(path) != fs::file_type::regular || name.extension() == ".h5" || hdf5::is_hdf5(path)) return;
  fail(ExitCode::usage,
       "{}: is not a dataset (HDF5); make one of it with: causeway import {}{} --out {}.h5, which reads FASTA, FASTQ, "
       "text, JSON and token ids",
       path, path, stem.has_extension() ? "" : " --format FORMAT", stem.stem().string());
}

}  // namespace

struct Dataset::State {
  std::string path;
  hdf5::File file;
  hdf5::Dataset tokens, names;
  std::optional<hdf5::Dataset> loss_mask, loss_weights;
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
  require(file.has_attribute("format") && file.string_attribute("format") == dataset_format::name,
          "{}: is not a dataset, expected attribute format = {}, as causeway import writes it, found {}", path,
          dataset_format::name,
          file.has_attribute("format") ? fmt::format("'{}'", file.string_attribute("format")) : "none");
  const std::int64_t version = file.integer_attribute("version");
  require(version == dataset_format::version, "{}: has version {}, expected {}", path, version,
          dataset_format::version);
  state.vocabulary_size = file.integer_attribute("vocabulary_size");
  require(state.vocabulary_size >= 1 && state.vocabulary_size <= dataset_format::largest_vocabulary,
          "{}: vocabulary_size is {}, expected 1 to {}", path, state.vocabulary_size,
          dataset_format::largest_vocabulary);

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

  using Kind = hdf5::ElementType::Kind;
  const auto list_of_tokens = [&](const char* name, auto&& fits, const char* expected) -> std::optional<hdf5::Dataset> {
    if (!file.exists(name)) return std::nullopt;
    hdf5::Dataset list = open_list(file, name);
    require(fits(list.type()), "{}: holds {}, expected {}", list.where(), list.type().to_string(), expected);
    require(list.rows() == tokens, "{}: has {} values, expected {} as in /tokens", list.where(), list.rows(), tokens);
    return list;
  };
  state.loss_mask = list_of_tokens(
      "loss_mask", [](auto held) { return held.kind == Kind::integer && held.bytes == 1; }, "u8 or numpy's bool");
  state.loss_weights = list_of_tokens(
      "loss_weight", [](auto held) { return held.kind == Kind::floating; }, "f32 or other floats");
}

Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;

const std::string& Dataset::path() const { return state_->path; }
std::int64_t Dataset::documents() const { return static_cast<std::int64_t>(state_->cu_seqlens.size()) - 1; }
std::int64_t Dataset::tokens() const { return state_->cu_seqlens.back(); }
std::int64_t Dataset::vocabulary_size() const { return state_->vocabulary_size; }
bool Dataset::has_loss_mask() const { return state_->loss_mask.has_value(); }
bool Dataset::has_loss_weights() const { return state_->loss_weights.has_value(); }
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
  state_->check_range(*state_->loss_mask, begin, out.size());
  if (state_->loss_mask->type() == hdf5::u8) return state_->loss_mask->read_rows(begin, out);
  std::vector<std::int32_t> values(out.size());
  state_->loss_mask->read_rows(begin, std::span(values));
  for (std::size_t t = 0; t < out.size(); ++t) {
    require(values[t] == 0 || values[t] == 1, "{}: value {} is {}, expected 0 or 1, as numpy's bool has them",
            state_->loss_mask->where(), begin + static_cast<std::int64_t>(t), values[t]);
    out[t] = static_cast<std::uint8_t>(values[t]);
  }
}

void Dataset::read_loss_weights(std::int64_t begin, std::span<float> out) const {
  require(has_loss_weights(), "{}:/loss_weight: is missing", path());
  state_->check_range(*state_->loss_weights, begin, out.size());
  state_->loss_weights->read_rows(begin, out);
  dataset_format::require_loss_weights(out, begin, state_->loss_weights->where());
}

void Dataset::read_label_weights(std::int64_t begin, std::span<float> out) const {
  if (has_loss_weights())
    read_loss_weights(begin, out);
  else
    std::ranges::fill(out, 1.0F);
  if (!has_loss_mask()) return;
  std::vector<std::uint8_t> mask(out.size());
  read_loss_mask(begin, mask);
  for (std::size_t t = 0; t < out.size(); ++t)
    if (mask[t] == 0) out[t] = 0;
}

std::size_t histogram_bin(std::int64_t length) {
  return static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(length)));
}

std::string stored_name(const std::string& name) {
  std::string text = as_utf8(name);
  std::replace(text.begin(), text.end(), '\0', '?');  // HDF5's strings end at a NUL
  return text;
}

}  // namespace causeway

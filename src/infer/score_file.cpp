#include "src/infer/score_file.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include "io/data/name_reader.hpp"

namespace causeway {
namespace {

constexpr std::int64_t names_at_once = 4096;
constexpr std::int64_t file_chunk_bytes = 1 << 20;

}  // namespace

std::optional<EmbeddingRequest> EmbeddingRequest::parse(const std::string& text, std::int64_t layers) {
  if (text.empty()) return std::nullopt;
  EmbeddingRequest request;
  const std::size_t colon = std::min(text.find(':'), text.size());
  const auto [stop, error] = std::from_chars(text.data(), text.data() + colon, request.layer);
  const std::string kind = colon == text.size() ? "mean" : text.substr(colon + 1);
  request.mean = kind == "mean";
  require(error == std::errc() && stop == text.data() + colon && (kind == "mean" || kind == "tokens"),
          "--embeddings is '{}', expected LAYER, LAYER:mean or LAYER:tokens", text);
  require(request.layer >= 0 && request.layer <= layers,
          "--embeddings names layer {}, expected 0 (the embedding) to {}", request.layer, layers);
  return request;
}

ScoreFile::ScoreFile(const std::string& path, const Dataset& data, std::optional<EmbeddingRequest> embeddings,
                     std::int64_t width)
    : target_(path),
      file_(hdf5::File::open(target_.temporary(), hdf5::Access::create)),
      data_(data),
      embeddings_(embeddings),
      width_(width) {
  const std::int64_t documents = data.documents(), tokens = data.tokens();
  file_.set_attribute("format", format);
  file_.set_attribute("version", std::int64_t{1});
  file_.set_attribute("data", data.path());
  file_.write<std::int64_t>("cu_seqlens", {documents + 1}, data.cu_seqlens());
  write_names();
  documents_.assign(static_cast<std::size_t>(documents), 0);
  token_scores_ = file_.create_dataset("token/log_likelihood", rows_of(tokens, 1, hdf5::f32));
  if (!embeddings_) return;
  const std::string name = fmt::format("embeddings/layer_{}", embeddings_->layer);
  embedding_rows_ = file_.create_dataset(name, rows_of(embeddings_->mean ? documents : tokens, width, hdf5::f32));
  embedding_rows_.set_attribute("layer", embeddings_->layer);
  embedding_rows_.set_attribute("of", embeddings_->mean ? "documents" : "tokens");
  sum_.assign(static_cast<std::size_t>(width), 0);
}

void ScoreFile::write_names() {
  const std::int64_t documents = data_.documents();
  hdf5::Dataset names = file_.create_dataset("names", {.shape = {documents}, .type = hdf5::string});
  NameReader reader(data_);
  for (std::int64_t begin = 0; begin < documents; begin += names_at_once) {
    std::vector<std::string> batch;
    for (std::int64_t i = begin; i < std::min(documents, begin + names_at_once); ++i)
      batch.push_back(stored_name(reader.next()));
    names.write_strings(begin, batch);
  }
}

void ScoreFile::add_losses(std::int64_t first, std::span<const double> losses) {
  std::vector<float> scores(losses.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const std::int64_t token = first + static_cast<std::int64_t>(i);
    advance_to(token, document_of_losses_);
    const bool starts = token == data_.cu_seqlens()[document_of_losses_];
    scores[i] = starts ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(-last_loss_);
    last_loss_ = losses[i];
    documents_[static_cast<std::size_t>(document_of_losses_)] -= losses[i];
  }
  token_scores_.write_rows(first, std::span<const float>(scores));
}

void ScoreFile::add_embeddings(std::int64_t first, std::span<const float> values) {
  if (!embeddings_->mean) return embedding_rows_.write_rows(first, values);
  for (std::size_t i = 0; i < values.size(); i += sum_.size()) {
    const std::int64_t token = first + static_cast<std::int64_t>(i) / width_;
    advance_to(token, document_of_embeddings_);
    for (std::size_t d = 0; d < sum_.size(); ++d) sum_[d] += values[i + d];
    const std::int64_t begin = data_.cu_seqlens()[document_of_embeddings_],
                       end = data_.cu_seqlens()[document_of_embeddings_ + 1];
    if (token + 1 < end) continue;
    std::vector<float> mean(sum_.size());
    for (std::size_t d = 0; d < sum_.size(); ++d)
      mean[d] = static_cast<float>(sum_[d] / static_cast<double>(end - begin));
    embedding_rows_.write_rows(document_of_embeddings_, std::span<const float>(mean));
    std::fill(sum_.begin(), sum_.end(), 0);
  }
}

void ScoreFile::finish() {
  const auto starts = data_.cu_seqlens();
  std::vector<std::int64_t> lengths;
  for (std::size_t s = 0; s + 1 < starts.size(); ++s) lengths.push_back(starts[s + 1] - starts[s]);
  const std::int64_t documents = data_.documents();
  file_.write<double>("document/log_likelihood", {documents}, documents_);
  file_.write<std::int64_t>("document/tokens", {documents}, lengths);
  token_scores_ = {};
  embedding_rows_ = {};
  file_.close();
  target_.commit();
}

double ScoreFile::total() const {
  double sum = 0;
  for (const double document : documents_) sum += document;
  return sum;
}

hdf5::DatasetOptions ScoreFile::rows_of(std::int64_t rows, std::int64_t columns, hdf5::ElementType type) {
  const std::int64_t chunk =
      std::clamp<std::int64_t>(file_chunk_bytes / (columns * type.bytes), 1, std::max<std::int64_t>(1, rows));
  return {.shape = columns == 1 ? std::vector{rows} : std::vector{rows, columns},
          .type = type,
          .chunk_rows = chunk,
          .fletcher32 = true};
}

void ScoreFile::advance_to(std::int64_t token, std::int64_t& document) const {
  while (data_.cu_seqlens()[document + 1] <= token) ++document;
}

}  // namespace causeway

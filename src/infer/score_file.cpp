#include "src/infer/score_file.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "io/data/name_reader.hpp"

namespace causeway {
namespace {

constexpr std::int64_t names_at_once = 4096;
constexpr std::int64_t file_chunk_bytes = 1 << 20;
constexpr double no_score = std::numeric_limits<double>::quiet_NaN();
constexpr float no_probability = std::numeric_limits<float>::quiet_NaN();

}  // namespace

ScoreFile::ScoreFile(const std::string& path, const Dataset& data, ScoreRequest request, std::int64_t width)
    : target_(path),
      file_(hdf5::File::open(target_.temporary(), hdf5::Access::create)),
      data_(data),
      request_(std::move(request)),
      strands_(request_.reverse_complement ? 2 : 1),
      weighted_loss_(data) {
  const std::int64_t documents = data.documents(), tokens = data.tokens();
  file_.set_attribute("format", format);
  file_.set_attribute("version", std::int64_t{1});
  file_.set_attribute("data", data.path());
  if (request_.fp8 != Fp8Level::off) file_.set_attribute("fp8", std::string(name_of(request_.fp8)));
  file_.write<std::int64_t>("cu_seqlens", {documents + 1}, data.cu_seqlens());
  write_names();
  for (StrandScores& strand : strands_) strand.documents.assign(static_cast<std::size_t>(documents), 0);
  of(Strand::forward).tokens = file_.create_dataset("token/log_likelihood", rows_of(tokens, 1, request_.score_type));
  if (request_.reverse_complement) {
    file_.set_attribute("strands", "both");
    hdf5::Dataset& reverse = of(Strand::reverse).tokens;
    reverse = file_.create_dataset("token/log_likelihood_reverse", rows_of(tokens, 1, request_.score_type));
    reverse.set_attribute("position", "the forward token opposite");
  }
  create_embeddings(width);
  create_probabilities();
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

void ScoreFile::create_embeddings(std::int64_t width) {
  for (const EmbeddingRequest& request : request_.embeddings) {
    hdf5::Dataset rows =
        file_.create_dataset(fmt::format("embeddings/layer_{}", request.layer),
                             rows_of(request.mean ? data_.documents() : data_.tokens(), width, hdf5::f32));
    rows.set_attribute("layer", request.layer);
    rows.set_attribute("of", request.mean ? "documents" : "tokens");
    embeddings_.push_back(
        {.request = request, .rows = std::move(rows), .sum = std::vector<double>(static_cast<std::size_t>(width), 0)});
  }
}

void ScoreFile::create_probabilities() {
  const std::int64_t count = std::ssize(request_.probability_tokens);
  if (count == 0) return;
  hdf5::DatasetOptions options = rows_of(data_.tokens(), count, request_.probability_type);
  options.shape = {data_.tokens(), count};  // also for one token
  probabilities_.rows = file_.create_dataset("token/probability", options);
  probabilities_.last.assign(static_cast<std::size_t>(count), no_probability);
  file_.write<std::int32_t>("token/probability_ids", {count}, request_.probability_tokens);
}

void ScoreFile::add_losses(Strand strand, std::int64_t first, std::span<const double> losses) {
  StrandScores& to = of(strand);
  std::vector<double> scores(losses.size());
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const bool starts = advance_to(first + static_cast<std::int64_t>(i), to.document);
    scores[i] = starts ? no_score : -to.last_loss;
    to.last_loss = losses[i];
    to.documents[static_cast<std::size_t>(to.document)] -= losses[i];
  }
  if (strand == Strand::reverse) return write_opposite(first, scores);
  to.tokens.write_rows(first, std::span<const double>(scores));
  weighted_loss_.add(first, losses);
}

void ScoreFile::write_opposite(std::int64_t first, std::span<const double> scores) {
  const auto starts = data_.cu_seqlens();
  const std::int64_t end = first + std::ssize(scores);
  std::vector<std::pair<std::int64_t, double>> placed;  // token, score
  placed.reserve(scores.size());
  std::int64_t document = std::ranges::upper_bound(starts, first) - starts.begin() - 1;
  for (std::int64_t token = first; token < end; ++document) {
    const ReverseDocument reversed(data_, document);
    for (; token < std::min(end, starts[document + 1]); ++token)
      placed.emplace_back(starts[document] + reversed.opposite(token - starts[document]),
                          scores[static_cast<std::size_t>(token - first)]);
  }
  std::ranges::sort(placed, {}, &std::pair<std::int64_t, double>::first);
  std::vector<double> run;  // scores of consecutive tokens
  for (std::size_t i = 0; i < placed.size(); ++i) {
    run.push_back(placed[i].second);
    if (i + 1 < placed.size() && placed[i + 1].first == placed[i].first + 1) continue;
    of(Strand::reverse).tokens.write_rows(placed[i].first + 1 - std::ssize(run), std::span<const double>(run));
    run.clear();
  }
}

void ScoreFile::add_embeddings(std::size_t request, std::int64_t first, std::span<const float> values) {
  Embedding& to = embeddings_[request];
  if (!to.request.mean) return to.rows.write_rows(first, values);
  for (std::size_t i = 0; i < values.size(); i += to.sum.size()) {
    const std::int64_t token = first + static_cast<std::int64_t>(i / to.sum.size());
    advance_to(token, to.document);
    for (std::size_t d = 0; d < to.sum.size(); ++d) to.sum[d] += values[i + d];
    const std::int64_t begin = data_.cu_seqlens()[to.document], end = data_.cu_seqlens()[to.document + 1];
    if (token + 1 < end) continue;
    std::vector<float> mean(to.sum.size());
    for (std::size_t d = 0; d < to.sum.size(); ++d)
      mean[d] = static_cast<float>(to.sum[d] / static_cast<double>(end - begin));
    to.rows.write_rows(to.document, std::span<const float>(mean));
    std::fill(to.sum.begin(), to.sum.end(), 0);
  }
}

void ScoreFile::add_probabilities(std::int64_t first, std::span<const float> values) {
  const std::size_t count = probabilities_.last.size();
  std::vector<float> shifted(values.size());
  for (std::size_t i = 0; i < values.size(); i += count) {
    const bool starts = advance_to(first + static_cast<std::int64_t>(i / count), probabilities_.document);
    for (std::size_t c = 0; c < count; ++c) shifted[i + c] = starts ? no_probability : probabilities_.last[c];
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(i), count, probabilities_.last.begin());
  }
  probabilities_.rows.write_rows(first, std::span<const float>(shifted));
}

void ScoreFile::finish() {
  const auto starts = data_.cu_seqlens();
  std::vector<std::int64_t> lengths;
  for (std::size_t s = 0; s + 1 < starts.size(); ++s) lengths.push_back(starts[s + 1] - starts[s]);
  const std::int64_t count = data_.documents();
  const DocumentScores scores = documents();
  file_.write<double>("document/log_likelihood", {count}, scores.log_likelihood);
  file_.write<std::int64_t>("document/tokens", {count}, lengths);
  if (request_.reverse_complement) {
    file_.write<double>("document/log_likelihood_forward", {count}, scores.forward);
    file_.write<double>("document/log_likelihood_reverse", {count}, scores.reverse);
  }
  if (const std::optional<double> loss = weighted_loss()) file_.set_attribute("weighted_loss", *loss);
  for (StrandScores& strand : strands_) strand.tokens = {};
  embeddings_.clear();
  probabilities_ = {};
  file_.close();
  target_.commit();
}

DocumentScores ScoreFile::documents() const {
  if (!request_.reverse_complement) return {.log_likelihood = strands_[0].documents, .forward = {}, .reverse = {}};
  DocumentScores scores{.log_likelihood = {}, .forward = strands_[0].documents, .reverse = strands_[1].documents};
  for (std::size_t d = 0; d < scores.forward.size(); ++d)
    scores.log_likelihood.push_back((scores.forward[d] + scores.reverse[d]) / 2);
  return scores;
}

hdf5::DatasetOptions ScoreFile::rows_of(std::int64_t rows, std::int64_t columns, hdf5::ElementType type) {
  const std::int64_t chunk =
      std::clamp<std::int64_t>(file_chunk_bytes / (columns * type.bytes), 1, std::max<std::int64_t>(1, rows));
  return {.shape = columns == 1 ? std::vector{rows} : std::vector{rows, columns},
          .type = type,
          .chunk_rows = chunk,
          .fletcher32 = true};
}

bool ScoreFile::advance_to(std::int64_t token, std::int64_t& document) const {
  while (data_.cu_seqlens()[document + 1] <= token) ++document;
  return data_.cu_seqlens()[document] == token;
}

}  // namespace causeway

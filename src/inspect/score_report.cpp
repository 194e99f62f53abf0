#include "src/inspect/score_report.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "kernels/core/segments.hpp"
#include "src/cli/number_format.hpp"
#include "src/infer/score_file.hpp"
#include "src/inspect/checkpoint_report.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

constexpr std::int64_t values_at_once = 65536;
constexpr std::size_t longest_name = 100, most_listed = 3;

/// The documents of a file of scores.
struct ScoredDocuments {
  std::vector<std::int64_t> starts;  // cu_seqlens
  std::vector<double> log_likelihood;

  std::int64_t count() const { return std::ssize(log_likelihood); }
  std::int64_t tokens(std::int64_t d) const { return starts[std::size_t(d) + 1] - starts[std::size_t(d)]; }
  /// Per token that has a score; nothing for a document without one.
  std::optional<double> per_token(std::int64_t d) const {
    if (tokens(d) < 2) return std::nullopt;
    return log_likelihood[std::size_t(d)] / static_cast<double>(tokens(d) - 1);
  }
};

hdf5::Dataset open_rows(const hdf5::File& file, const std::string& name, std::int64_t rows,
                        std::size_t dimensions = 1) {
  hdf5::Dataset dataset = file.dataset(name);
  const std::vector<std::int64_t> shape = dataset.shape();
  require(shape.size() == dimensions, "{}: has {} dimensions, expected {}", dataset.where(), shape.size(), dimensions);
  require(shape.front() == rows, "{}: has {} rows, expected {} by /cu_seqlens", dataset.where(), shape.front(), rows);
  return dataset;
}

ScoredDocuments read_documents(const hdf5::File& file) {
  ScoredDocuments documents;
  const hdf5::Dataset starts = file.dataset("cu_seqlens");
  documents.starts = starts.read_all<std::int64_t>(starts.size());
  require_documents_in_order(documents.starts, starts.where());
  const std::int64_t count = std::ssize(documents.starts) - 1;
  documents.log_likelihood = open_rows(file, "document/log_likelihood", count).read_all<double>(count);
  const hdf5::Dataset lengths = open_rows(file, "document/tokens", count);
  const std::vector<std::int64_t> stored = lengths.read_all<std::int64_t>(count);
  for (std::int64_t d = 0; d < count; ++d)
    if (stored[std::size_t(d)] != documents.tokens(d))
      fail(ExitCode::corrupt, "{}: value {} is {}, expected {} by /cu_seqlens", lengths.where(), d,
           stored[std::size_t(d)], documents.tokens(d));
  open_rows(file, "names", count);
  return documents;
}

/// Lines of the documents with the lowest and the highest log-likelihood per token.
std::string extremes(const hdf5::File& file, const ScoredDocuments& documents) {
  std::vector<std::pair<double, std::int64_t>> scored;
  for (std::int64_t d = 0; d < documents.count(); ++d)
    if (const auto score = documents.per_token(d); score && !std::isnan(*score)) scored.emplace_back(*score, d);
  const std::size_t listed = std::min(most_listed, scored.size());
  const auto lines = [&](const char* title) {
    std::string text;
    for (std::size_t i = 0; i < listed; ++i) {
      const auto [score, d] = scored[i];
      text += fmt::format("  {:<13} {:.4f} nats a token, {} tokens, {}\n", i == 0 ? title : "", score,
                          grouped(documents.tokens(d)),
                          one_line(file.dataset("names").read_strings(d, 1).front(), longest_name));
    }
    return text;
  };
  const auto end = scored.begin() + static_cast<std::ptrdiff_t>(listed);
  std::partial_sort(scored.begin(), end, scored.end(), std::greater<>());
  std::string text = lines("best");
  std::partial_sort(scored.begin(), end, scored.end());
  return text + lines("worst");
}

/// The tokens whose probabilities are stored: bytes that can be printed as themselves.
std::string probability_tokens(const hdf5::File& file) {
  constexpr std::int64_t most = 256;
  std::string text;
  for (const std::int64_t id : file.dataset("token/probability_ids").read_all<std::int64_t>(most))
    text += (text.empty() ? "" : ", ") +
            (id > 0x20 && id < 0x7f ? std::string(1, static_cast<char>(id)) : fmt::format("{}", id));
  return text;
}

/// Reads the rows of a dataset; `take` gets some at a time.
void read_in_parts(const hdf5::Dataset& dataset,
                   const std::function<void(std::int64_t row, std::span<const double>)>& take) {
  const std::int64_t columns = std::max<std::int64_t>(1, dataset.row_size()), rows = dataset.rows();
  const std::int64_t at_once = std::max<std::int64_t>(1, values_at_once / columns);
  std::vector<double> values;
  for (std::int64_t row = 0; row < rows; row += at_once) {
    values.resize(static_cast<std::size_t>(std::min(at_once, rows - row) * columns));
    dataset.read_rows(row, std::span<double>(values));
    take(row, values);
  }
}

/// Reads all tokens' scores of a strand. Throws Error(corrupt) where their sum in a document is not its log-likelihood.
/// A document has one token without a score.
void verify_tokens(const hdf5::File& file, const ScoredDocuments& documents, const std::string& tokens_name,
                   const std::string& documents_name) {
  const hdf5::Dataset tokens = open_rows(file, tokens_name, documents.starts.back());
  const hdf5::Dataset totals = open_rows(file, documents_name, documents.count());
  const std::vector<double> stated = totals.read_all<double>(documents.count());
  std::int64_t document = 0, without = 0;
  double sum = 0;
  read_in_parts(tokens, [&](std::int64_t first, std::span<const double> values) {
    for (std::int64_t t = first; t < first + std::ssize(values); ++t) {
      while (documents.starts[std::size_t(document) + 1] <= t) ++document;
      const double value = values[std::size_t(t - first)];
      if (std::isnan(value))
        ++without;
      else
        sum += value;
      if (t + 1 < documents.starts[std::size_t(document) + 1]) continue;
      const double total = stated[std::size_t(document)];
      constexpr double f32_rounding = 1e-5;
      if (without != 1 || !(std::abs(sum - total) <= f32_rounding * (1 + std::abs(total))))
        fail(ExitCode::corrupt,
             "{}: document {} has {} tokens without a score and {} nats in the others, expected 1 and {} as in {}",
             tokens.where(), document, without, sum, total, totals.where());
      sum = 0;
      without = 0;
    }
  });
}

/// Throws Error(corrupt) where a document's log-likelihood is not the mean of its strands'.
void verify_means(const hdf5::File& file, const ScoredDocuments& documents) {
  const auto read = [&](const char* name) {
    return open_rows(file, name, documents.count()).read_all<double>(documents.count());
  };
  const std::vector<double> forward = read("document/log_likelihood_forward"),
                            reverse = read("document/log_likelihood_reverse");
  for (std::size_t d = 0; d < forward.size(); ++d)
    if (documents.log_likelihood[d] != (forward[d] + reverse[d]) / 2)
      fail(ExitCode::corrupt, "{}: value {} is {}, expected {}, the mean of both strands",
           file.dataset("document/log_likelihood").where(), d, documents.log_likelihood[d],
           (forward[d] + reverse[d]) / 2);
}

std::string other_results(const hdf5::File& file, const ScoredDocuments& documents, bool verify) {
  std::string text;
  const auto read = [&](const hdf5::Dataset& dataset) {
    if (verify) read_in_parts(dataset, [](std::int64_t, std::span<const double>) {});
  };
  for (const std::string& name : file.exists("embeddings") ? file.list("embeddings") : std::vector<std::string>()) {
    const std::string path = "embeddings/" + name;
    const hdf5::Dataset rows = file.dataset(path);
    const std::string of = rows.string_attribute("of");
    open_rows(file, path, of == "documents" ? documents.count() : documents.starts.back(), 2);
    text += fmt::format("  embeddings    {}: of {} channels, {}, one row for each of the {}\n", one_line(name),
                        rows.row_size(), rows.type().to_string(), one_line(of));
    read(rows);
  }
  if (file.exists("token/probability")) {
    const hdf5::Dataset rows = open_rows(file, "token/probability", documents.starts.back(), 2);
    text += fmt::format("  probabilities of {}, {}\n", probability_tokens(file), rows.type().to_string());
    read(rows);
  }
  return text;
}

}  // namespace

bool is_score_file(const hdf5::File& file) {
  return file.has_attribute("format") && file.string_attribute("format") == ScoreFile::format;
}

std::string describe_scores(const std::string& path, bool verify) {
  const auto file = hdf5::File::open(path, hdf5::Access::read);
  const std::int64_t version = file.integer_attribute("version");
  require(version == 1, "{}: has version {}, expected 1", path, version);
  const ScoredDocuments documents = read_documents(file);
  const bool both = file.has_attribute("strands") && file.string_attribute("strands") == "both";
  std::int64_t scored = 0, without = 0;
  double total = 0;
  for (std::int64_t d = 0; d < documents.count(); ++d) {
    scored += std::max<std::int64_t>(0, documents.tokens(d) - 1);
    without += documents.tokens(d) < 2 ? 1 : 0;
    total += documents.log_likelihood[std::size_t(d)];
  }
  std::string text = fmt::format("{}: scores, {} bytes\n", one_line(path),
                                 grouped(static_cast<std::int64_t>(std::filesystem::file_size(path))));
  text += fmt::format("  data          {}\n", shown(file.attribute("data")));
  text += fmt::format("  documents     {}, {} of them without a score (fewer than two tokens)\n",
                      grouped(documents.count()), grouped(without));
  text += fmt::format("  tokens        {}, {} of them scored\n", grouped(documents.starts.back()), grouped(scored));
  text += fmt::format("  strands       {}\n", both ? "both; a document's score is the mean" : "forward");
  if (scored > 0) {
    const double mean = total / static_cast<double>(scored);
    text += fmt::format("  mean          {:.4f} nats a token, perplexity {:.4f}\n", mean, std::exp(-mean));
    text += extremes(file, documents);
  }
  if (file.has_attribute("weighted_loss"))
    text += fmt::format("  weighted loss {:.4f} nats a label, by loss mask and weights\n",
                        file.number_attribute("weighted_loss"));
  open_rows(file, "token/log_likelihood", documents.starts.back());
  text += other_results(file, documents, verify);
  if (!verify) return text;
  verify_tokens(file, documents, "token/log_likelihood",
                both ? "document/log_likelihood_forward" : "document/log_likelihood");
  if (both) {
    verify_tokens(file, documents, "token/log_likelihood_reverse", "document/log_likelihood_reverse");
    verify_means(file, documents);
  }
  for (std::int64_t d = 0; d < documents.count(); d += values_at_once)
    file.dataset("names").read_strings(d, std::min(values_at_once, documents.count() - d));
  return text + "  verified      every value read; the tokens' scores sum to the documents'\n";
}

}  // namespace causeway

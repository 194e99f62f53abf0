#include "src/train/data/data_mixture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <numeric>

#include "io/file/look_up.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// "data.h5:0.5" → path and weight. A colon without a number after it is part of the path.
std::pair<std::string, double> parse_source(const std::string& source) {
  const std::size_t colon = source.rfind(':');
  if (colon == std::string::npos || colon + 1 == source.size()) return {source, 1.0};
  const char* const text = source.c_str() + colon + 1;
  char* end = nullptr;
  const double weight = std::strtod(text, &end);
  if (*end != '\0') return {source, 1.0};
  require(std::isfinite(weight) && weight > 0, "--data {}: the weight is {}, expected a positive number", source, text);
  return {source.substr(0, colon), weight};
}

/// Multiplies all weights by one power of two, which is exact, so that their sum neither overflows nor is subnormal.
void bring_into_range(std::vector<double>& weights) {
  int exponent = 0;
  std::frexp(*std::ranges::max_element(weights), &exponent);
  constexpr int safe = 512;
  if (exponent > -safe && exponent < safe) return;
  for (double& weight : weights) weight = std::ldexp(weight, -exponent);
}

/// Whether a token of the dataset is a label, when documents are cut into pieces of at most `longest` tokens: every
/// token but the first of a piece is one, unless the loss mask or the loss weight is 0 there.
bool has_label(const Dataset& dataset, std::int64_t longest, const std::function<void()>& between) {
  constexpr std::int64_t at_once = std::int64_t{1} << 20;
  const auto starts = dataset.cu_seqlens();
  const bool weighted = dataset.has_loss_mask() || dataset.has_loss_weights();
  std::vector<float> weights;
  std::int64_t weights_begin = 0;
  std::int64_t pieces = 0;
  for (std::int64_t document = 0; document + 1 < std::ssize(starts); ++document)
    for (std::int64_t begin = starts[document]; begin < starts[document + 1];) {
      const std::int64_t end = begin + std::min(longest, starts[document + 1] - begin);
      if (end - begin > 1 && !weighted) return true;
      if (between && ++pieces % at_once == 0) between();
      for (std::int64_t token = begin + 1; token < end && weighted; ++token) {
        if (token >= weights_begin + std::ssize(weights)) {
          if (between) between();
          weights_begin = token;
          weights.resize(static_cast<std::size_t>(std::min(at_once, dataset.tokens() - token)));
          dataset.read_label_weights(token, weights);
        }
        if (weights[static_cast<std::size_t>(token - weights_begin)] != 0) return true;
      }
      begin = end;
    }
  return false;
}

/// The smallest share of all weights with which a dataset can be drawn: a random number has 53 bits.
constexpr double smallest_share = 1e-15;

}  // namespace

DataMixture DataMixture::open(const std::vector<std::string>& sources, std::int64_t vocabulary) {
  require(!sources.empty(), "--data is missing: expected at least one dataset, as causeway import writes them");
  DataMixture mixture;
  for (const std::string& source : sources) {
    const auto [path, weight] =
        kind_of(source) != std::filesystem::file_type::not_found ? std::pair(source, 1.0) : parse_source(source);
    const Dataset& dataset = mixture.datasets.emplace_back(path);
    mixture.weights.push_back(weight);
    require(dataset.tokens() > 0, "{}: the dataset has no tokens", path);
    require(dataset.vocabulary_size() <= vocabulary,
            "{}: vocabulary_size is {}, expected at most the model's {}; a new model has it with --vocabulary {}", path,
            dataset.vocabulary_size(), vocabulary, dataset.vocabulary_size());
  }
  bring_into_range(mixture.weights);
  const double all = std::accumulate(mixture.weights.begin(), mixture.weights.end(), 0.0);
  for (std::size_t d = 0; d < sources.size(); ++d)
    require(
        mixture.weights[d] / all >= smallest_share,
        "--data {}: the weight is {:.1e} of all weights, expected at least {:.0e}: no document would be drawn from it",
        sources[d], mixture.weights[d] / all, smallest_share);
  return mixture;
}

std::int64_t DataMixture::tokens() const {
  return std::accumulate(datasets.begin(), datasets.end(), std::int64_t{0},
                         [](std::int64_t sum, const Dataset& dataset) { return sum + dataset.tokens(); });
}

double DataMixture::mean_document() const {
  std::int64_t documents = 0;
  for (const Dataset& dataset : datasets) documents += dataset.documents();
  return static_cast<double>(tokens()) / static_cast<double>(std::max<std::int64_t>(documents, 1));
}

bool DataMixture::has_loss_weights() const { return std::ranges::any_of(datasets, &Dataset::has_loss_weights); }

void DataMixture::refuse_without_labels(const PackingOptions& packing, const std::function<void()>& between) const {
  const std::int64_t longest =
      packing.long_documents == LongDocuments::cut ? packing.pack_tokens : std::numeric_limits<std::int64_t>::max();
  for (const Dataset& dataset : datasets)
    require(has_label(dataset, longest, between),
            "{}: no token is a label{}, so there is nothing to learn from: the first token of a document{} has none, "
            "and {}",
            dataset.path(), longest == 1 ? " with --pack-tokens 1" : "",
            longest < dataset.tokens() ? fmt::format(", or of its pieces of at most --pack-tokens {},", longest) : "",
            dataset.has_loss_weights() ? "the loss weight is 0 at all others"
            : dataset.has_loss_mask()  ? "the loss mask is 0 at all others"
                                       : "there is no other token");
}

void DataMixture::refuse_too_large_packs(std::int64_t pack_tokens) const {
  constexpr std::int64_t always_allowed = std::int64_t{1} << 20, most_repeats = 16;
  const std::int64_t most = std::max(always_allowed, most_repeats * tokens());
  require(pack_tokens <= most,
          "--pack-tokens is {}, but the data have {} tokens; expected at most {}: a larger pack would only repeat the "
          "same documents",
          pack_tokens, tokens(), most);
}

void DataMixture::refuse_longer(std::int64_t most) const {
  for (const Dataset& dataset : datasets) {
    const auto starts = dataset.cu_seqlens();
    for (std::int64_t document = 0; document < dataset.documents(); ++document) {
      const std::int64_t length = starts[document + 1] - starts[document];
      require(length <= most,
              "{}: document {} has {} tokens, expected at most --pack-tokens {}, or --long-documents cut",
              dataset.path(), document, length, most);
    }
  }
}

}  // namespace causeway

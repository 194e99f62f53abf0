#include "src/inspect/dataset_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <filesystem>
#include <map>
#include <span>
#include <vector>

#include "io/data/dataset.hpp"
#include "io/data/identity.hpp"
#include "src/cli/number_format.hpp"
#include "src/cli/progress.hpp"
#include "src/inspect/checkpoint_report.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

/// The character of a token that is a printable byte, else its number.
std::string token_name(std::int64_t token) {
  return token > 0x20 && token < 0x7f ? std::string(1, static_cast<char>(token)) : fmt::format("{}", token);
}

/// The number of documents by length, one bar for each power of two.
std::string length_histogram(std::span<const std::int64_t> lengths) {
  std::array<std::int64_t, 65> bins{};
  for (const std::int64_t length : lengths)
    ++bins[static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(length)))];
  const std::int64_t most = *std::max_element(bins.begin(), bins.end());
  const auto first =
      static_cast<std::size_t>(std::find_if(bins.begin(), bins.end(), [](auto n) { return n > 0; }) - bins.begin());
  const auto last = static_cast<std::size_t>(
      std::find_if(bins.rbegin(), bins.rend(), [](auto n) { return n > 0; }).base() - bins.begin());
  std::string text = "  documents by length\n";
  for (std::size_t bin = first; bin < last; ++bin) {
    const std::int64_t low = bin == 0 ? 0 : std::int64_t{1} << (bin - 1), high = bin == 0 ? 0 : low + (low - 1);
    const auto width =
        static_cast<std::size_t>(std::llround(40.0 * static_cast<double>(bins[bin]) / static_cast<double>(most)));
    text += fmt::format("    {:>25} {:>12} {}\n",
                        low == high ? grouped(low) : fmt::format("{} to {}", grouped(low), grouped(high)),
                        grouped(bins[bin]), std::string(width, '#'));
  }
  return text;
}

/// The most frequent tokens and the entropy of the token frequencies, over the start of the dataset.
std::string composition(const Dataset& dataset) {
  constexpr std::int64_t most_read = std::int64_t{1} << 24, chunk = std::int64_t{1} << 16;
  constexpr std::size_t most_shown = 10;
  const std::int64_t read = std::min(dataset.tokens(), most_read);
  if (read == 0) return "";
  std::map<std::int32_t, std::int64_t> counts;
  std::vector<std::int32_t> tokens;
  for (std::int64_t begin = 0; begin < read; begin += chunk) {
    tokens.resize(static_cast<std::size_t>(std::min(chunk, read - begin)));
    dataset.read_tokens(begin, tokens);
    for (const std::int32_t token : tokens) ++counts[token];
  }
  double entropy = 0;
  std::vector<std::pair<std::int64_t, std::int32_t>> by_count;
  for (const auto& [token, count] : counts) {
    const double part = static_cast<double>(count) / static_cast<double>(read);
    entropy -= part * std::log(part);
    by_count.emplace_back(-count, token);
  }
  std::sort(by_count.begin(), by_count.end());
  std::string text = "  tokens        ";
  for (std::size_t i = 0; i < std::min(by_count.size(), most_shown); ++i)
    text += fmt::format("{}{} {:.2f} %", i == 0 ? "" : ", ", token_name(by_count[i].second),
                        -100.0 * static_cast<double>(by_count[i].first) / static_cast<double>(read));
  if (by_count.size() > most_shown) text += fmt::format(" and {} more", by_count.size() - most_shown);
  if (read < dataset.tokens()) text += fmt::format(" (of the first {})", grouped(read));
  return text + fmt::format("\n  unigram       {:.4f} nats a token\n", entropy);
}

/// The weights of the labels, over the start of the dataset.
std::string loss_weights_of(const Dataset& dataset) {
  if (!dataset.has_loss_weights()) return "none";
  constexpr std::int64_t most_read = std::int64_t{1} << 24, chunk = std::int64_t{1} << 16;
  const std::int64_t read = std::min(dataset.tokens(), most_read);
  double sum = 0;
  std::int64_t zeros = 0;
  std::vector<float> weights;
  for (std::int64_t begin = 0; begin < read; begin += chunk) {
    weights.resize(static_cast<std::size_t>(std::min(chunk, read - begin)));
    dataset.read_label_weights(begin, weights);
    for (const float weight : weights) {
      sum += static_cast<double>(weight);
      zeros += weight == 0;
    }
  }
  return fmt::format("sum {:.1f}{}; {:.2f} % of the tokens have weight 0{}", sum,
                     dataset.has_loss_mask() ? " with the mask" : "",
                     read == 0 ? 0.0 : 100.0 * static_cast<double>(zeros) / static_cast<double>(read),
                     read < dataset.tokens() ? fmt::format(" (of the first {})", grouped(read)) : "");
}

}  // namespace

std::string describe_dataset(const std::string& path, bool verify) {
  constexpr std::int64_t names_shown = 5;
  constexpr std::size_t longest_name = 100;
  const Dataset dataset(path);
  std::vector<std::string> notes;
  if (verify) {
    verify_identity(dataset);
    Progress progress("verify", dataset.tokens(), "tokens");
    notes = dataset.verify([&](std::int64_t tokens) { progress.update(tokens); });
  }
  const auto file = hdf5::File::open(path, hdf5::Access::read);
  const auto cu_seqlens = dataset.cu_seqlens();
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(dataset.documents()));
  for (std::size_t d = 0; d < lengths.size(); ++d) lengths[d] = cu_seqlens[d + 1] - cu_seqlens[d];

  std::string text = fmt::format("{}: dataset, {} bytes\n", one_line(path),
                                 grouped(static_cast<std::int64_t>(std::filesystem::file_size(path))));
  if (file.has_attribute("source")) text += fmt::format("  source        {}\n", shown(file.attribute("source")));
  text += fmt::format("  documents     {}, {} of them empty\n", grouped(dataset.documents()),
                      grouped(std::count(lengths.begin(), lengths.end(), 0)));
  text += fmt::format("  tokens        {} of a vocabulary of {}, stored as {}\n", grouped(dataset.tokens()),
                      grouped(dataset.vocabulary_size()), file.dataset("tokens").type().to_string());
  text += fmt::format("  identity      {}\n", identity_of(dataset));
  text += fmt::format("  loss mask     {}\n", dataset.has_loss_mask() ? "yes" : "none");
  text += fmt::format("  loss weights  {}\n", loss_weights_of(dataset));
  if (!lengths.empty()) {
    std::vector<std::int64_t> sorted = lengths;
    std::sort(sorted.begin(), sorted.end());
    text += fmt::format(
        "  lengths       {} to {}, mean {:.1f}, median {}\n", grouped(sorted.front()), grouped(sorted.back()),
        static_cast<double>(dataset.tokens()) / static_cast<double>(sorted.size()), grouped(sorted[sorted.size() / 2]));
    text += length_histogram(lengths);
  }
  text += composition(dataset);
  text += "  first names   ";
  for (std::int64_t d = 0; d < std::min(dataset.documents(), names_shown); ++d)
    text += fmt::format("{}{}", d == 0 ? "" : ", ", one_line(dataset.name(d), longest_name));
  text += dataset.documents() > names_shown ? ", …\n" : "\n";
  if (verify)
    text += fmt::format("  verified      {} read; attributes and statistics fit the documents\n",
                        notes.empty() ? "every dataset, attribute and checksum" : "tokens, names and their checksums");
  for (const std::string& note : notes) text += fmt::format("  note          {}\n", one_line(note));
  return text;
}

}  // namespace causeway

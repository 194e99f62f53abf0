#include "src/bench/step/step_documents.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "kernels/core/error.hpp"
#include "kernels/core/integer.hpp"
#include "src/cli/text_file.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

std::vector<std::int64_t> documents_of(const std::vector<StepPass>& passes) {
  std::vector<std::int64_t> documents;
  for (const StepPass& pass : passes) documents.insert(documents.end(), pass.documents.begin(), pass.documents.end());
  return documents;
}

}  // namespace

std::int64_t StepPass::tokens() const { return std::accumulate(documents.begin(), documents.end(), std::int64_t{0}); }

std::int64_t StepPass::places() const { return row_tokens == 0 ? tokens() : row_tokens * std::ssize(documents); }

std::vector<std::int64_t> read_lengths(const std::string& path, std::string_view option) {
  constexpr std::size_t most_bytes = std::size_t{64} << 20;
  constexpr std::int64_t longest = std::int64_t{1} << 40;
  constexpr std::string_view blanks = " \t\r";
  const std::string text = read_text(path, option, most_bytes);
  std::vector<std::int64_t> lengths;
  std::int64_t number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++number;
    line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
    line = line.substr(0, line.find_last_not_of(blanks) + 1);
    if (line.empty()) continue;
    std::int64_t length = 0;
    const auto [stop, error] = std::from_chars(line.data(), line.data() + line.size(), length);
    require(error == std::errc() && stop == line.data() + line.size() && length >= 1 && length <= longest,
            "{}: {}:{}: found '{}', expected the length of a document, 1 to {}", option, path, number,
            one_line(line.substr(0, 40)), longest);
    lengths.push_back(length);
  }
  require(!lengths.empty(), "{}: '{}' has no lengths, expected the length of a document on each line", option, path);
  return lengths;
}

std::vector<StepPass> packs_of(const std::vector<std::int64_t>& lengths, const PackingOptions& packing,
                               std::int64_t packs) {
  constexpr std::int64_t windows = 8, most_skipped = std::int64_t{1} << 20;
  ensure(!lengths.empty(), "packs of no documents");
  Packer packer(packing, [&, next = std::size_t{0}]() mutable -> std::optional<Piece> {
    return Piece{.begin = 0, .end = lengths[next++ % lengths.size()]};
  });
  Pack pack;
  for (std::int64_t skipped = 0; skipped < std::min(windows * packing.window, most_skipped);) {
    packer.next(pack);
    skipped += std::ssize(pack.pieces);
  }
  std::vector<StepPass> passes;
  for (std::int64_t i = 0; i < packs; ++i) {
    packer.next(pack);
    StepPass& pass = passes.emplace_back();
    for (const Piece& piece : pack.pieces) pass.documents.push_back(piece.size());
  }
  return passes;
}

std::vector<StepPass> one_at_a_time(const std::vector<StepPass>& packs) {
  std::vector<StepPass> passes;
  for (const std::int64_t length : documents_of(packs)) passes.push_back({.documents = {length}});
  return passes;
}

std::vector<StepPass> padded(const std::vector<StepPass>& packs, std::int64_t most_tokens) {
  const std::vector<std::int64_t> documents = documents_of(packs);
  const std::int64_t longest = *std::ranges::max_element(documents),
                     rows = std::max<std::int64_t>(1, most_tokens / longest);
  std::vector<StepPass> passes;
  for (const std::int64_t length : documents) {
    if (passes.empty() || std::ssize(passes.back().documents) == rows)
      passes.push_back({.documents = {}, .row_tokens = longest});
    passes.back().documents.push_back(length);
  }
  return passes;
}

StepCount& StepCount::operator+=(const StepCount& other) {
  passes += other.passes;
  documents += other.documents;
  tokens += other.tokens;
  places += other.places;
  return *this;
}

StepCount count_of(const std::vector<StepPass>& passes) {
  StepCount count;
  for (const StepPass& pass : passes)
    count += {.passes = 1, .documents = std::ssize(pass.documents), .tokens = pass.tokens(), .places = pass.places()};
  return count;
}

}  // namespace causeway

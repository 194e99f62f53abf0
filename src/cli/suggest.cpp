#include "src/cli/suggest.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace causeway {
namespace {

/// The Levenshtein distance: the least number of insertions, deletions and replacements between two words.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j)
      diagonal =
          std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)}));
  }
  return row.back();
}

}  // namespace

std::string did_you_mean(std::string_view typed, std::span<const std::string> known) {
  constexpr std::size_t longest_word = 64;  // the time is quadratic in the length
  if (typed.empty() || typed.size() > longest_word) return "";
  const std::string* best = nullptr;
  // Two exchanged letters count as two replacements. In a word of three letters two replacements fit any word.
  std::size_t nearest = 1 + (typed.size() < 4 ? 1 : std::max<std::size_t>(2, typed.size() / 3));
  for (const std::string& word : known) {
    const bool begins = typed.size() >= 3 && word.starts_with(typed);
    const std::size_t apart = begins ? 1 : distance(typed, word);
    if (apart >= nearest) continue;
    nearest = apart;
    best = &word;
  }
  return best == nullptr ? "" : fmt::format("; did you mean '{}'?", *best);
}

}  // namespace causeway

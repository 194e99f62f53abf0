#include "io/data/readers/reader.hpp"

#include <algorithm>
#include <array>

namespace causeway {
namespace {

enum class Letter : std::uint8_t { foreign, sequence, blank };

constexpr std::array<Letter, 256> letters = [] {
  std::array<Letter, 256> table{};
  for (const unsigned char first : {'A', 'a'})
    for (std::size_t i = 0; i < 26; ++i) table[first + i] = Letter::sequence;
  for (const unsigned char other : {'*', '-', '.'}) table[other] = Letter::sequence;
  for (const unsigned char blank : {' ', '\t'}) table[blank] = Letter::blank;
  return table;
}();

Letter kind_of(char byte) { return letters[static_cast<unsigned char>(byte)]; }

}  // namespace

void FirstWord::add(std::string_view text, const LineReader& lines) {
  if (done_) return;
  const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
  done_ = end < text.size();
  if (word_.size() + end > longest_name)
    lines.refuse("found a name of more than {} bytes, expected a shorter one", longest_name);
  word_.append(text.substr(0, end));
}

std::int64_t append_sequence(std::string_view text, const LineReader& lines, DocumentSink& out) {
  std::int64_t count = 0;
  while (!text.empty()) {
    const auto run =
        std::find_if(text.begin(), text.end(), [](char byte) { return kind_of(byte) != Letter::sequence; });
    const auto length = static_cast<std::size_t>(run - text.begin());
    if (length < text.size() && kind_of(text[length]) == Letter::foreign)
      lines.refuse("found {} in a sequence, expected a letter, '*', '-' or '.'", shown(text[length]));
    if (length > 0) out.append_bytes(text.substr(0, length));
    count += static_cast<std::int64_t>(length);
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return count;
}

}  // namespace causeway

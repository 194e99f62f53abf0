#include "io/data/readers/reader.hpp"

#include <algorithm>

#include "io/data/dataset.hpp"
#include "io/file/utf8.hpp"

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

void DocumentSink::begin(const std::string& name, bool latin1) {
  latin1 = latin1 || !is_utf8(name);
  const bool nul = name.find('\0') != std::string::npos;
  const std::string stored = stored_name(name);
  if (changed_names.count() == 0 && (latin1 || nul)) changed_names.first = stored;
  changed_names.latin1 += latin1 ? 1 : 0;
  changed_names.nul += nul ? 1 : 0;
  on_document(stored);
}

void DocumentSink::append_bytes(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), tokens_.size());
    for (std::size_t i = 0; i < count; ++i) {
      const auto byte = static_cast<unsigned char>(bytes[i]);
      tokens_[i] = uppercase && byte >= 'a' && byte <= 'z' ? byte - 'a' + 'A' : byte;
    }
    append(std::span(tokens_).first(count));
    bytes.remove_prefix(count);
  }
}

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

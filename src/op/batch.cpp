#include "src/op/batch.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/core/error.hpp"

namespace causeway {

std::vector<std::string> split_words(std::string_view line) {
  std::vector<std::string> words;
  std::optional<std::string> word;
  char quote = 0;
  const auto append = [&](char c) {
    if (!word) word.emplace();
    word->push_back(c);
  };
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote != 0 && c == quote) {
      quote = 0;
    } else if (quote == '\'') {
      append(c);
    } else if (c == '\\') {
      require(i + 1 < line.size(), "the line ends in a backslash");
      const char next = line[++i];
      // Inside double quotes a backslash quotes only a double quote or a backslash.
      if (quote == '"' && next != '"' && next != '\\') append(c);
      append(next);
    } else if (quote == '"') {
      append(c);
    } else if (c == '\'' || c == '"') {
      quote = c;
      if (!word) word.emplace();  // '' is a word
    } else if (c == ' ' || c == '\t' || c == '\r') {
      if (word) words.push_back(*std::exchange(word, std::nullopt));
    } else {
      append(c);
    }
  }
  require(quote == 0, "a {} quote does not end", quote == '"' ? "double" : "single");
  if (word) words.push_back(*word);
  return words;
}

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace causeway

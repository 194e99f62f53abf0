#include "src/infer/token_lists.hpp"

#include <algorithm>
#include <charconv>

#include "kernels/core/error.hpp"

namespace causeway {

std::vector<std::int32_t> parse_ids(const std::string& text, std::int64_t vocabulary, const std::string& option) {
  constexpr std::string_view separators = " \t\n,";
  std::vector<std::int32_t> ids;
  for (std::size_t begin = text.find_first_not_of(separators); begin != text.npos;) {
    const std::size_t end = std::min(text.find_first_of(separators, begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    std::int32_t id = -1;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    require(error == std::errc() && stop == word.data() + word.size() && id >= 0 && id < vocabulary,
            "--{}: found '{}', expected token ids from 0 to {}", option, word, vocabulary - 1);
    ids.push_back(id);
    begin = text.find_first_not_of(separators, end);
  }
  return ids;
}

std::vector<std::int32_t> tokens_of_bytes(const std::string& text, std::int64_t vocabulary, const std::string& option) {
  std::vector<std::int32_t> tokens;
  for (const char byte : text) {
    const std::int32_t token = static_cast<unsigned char>(byte);
    require(token < vocabulary, "--{}: byte {} is not below the model's vocabulary of {}", option, token, vocabulary);
    require(std::ranges::find(tokens, token) == tokens.end(), "--{}: byte {} is there twice", option, token);
    tokens.push_back(token);
  }
  return tokens;
}

}  // namespace causeway

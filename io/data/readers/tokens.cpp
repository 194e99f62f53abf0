#include "io/data/readers/reader.hpp"

namespace causeway {

void read_tokens(LineReader& lines, DocumentSink& out) {
  std::vector<std::int32_t> tokens;  // of this part of the line
  std::int64_t value = -1;           // of the current number, which may continue in the next part; -1: none
  bool begun = false;
  const auto end_number = [&] {
    if (value >= 0) tokens.push_back(static_cast<std::int32_t>(value));
    value = -1;
  };
  while (const auto part = lines.next()) {
    if (part->first) begun = false;
    tokens.clear();
    for (const char byte : part->text) {
      if (byte == ' ' || byte == '\t') {
        end_number();
      } else if (byte >= '0' && byte <= '9') {
        value = std::max<std::int64_t>(value, 0) * 10 + (byte - '0');
        if (value >= out.vocabulary_size)
          lines.refuse("found token {} or more, expected less than the vocabulary's {}", value, out.vocabulary_size);
      } else {
        lines.refuse("found {}, expected token ids between blanks", shown(byte));
      }
    }
    if (part->last) end_number();
    if (tokens.empty()) continue;
    if (!begun) out.begin(fmt::format("{}:{}", lines.file_name(), lines.line()));
    begun = true;
    out.append(tokens);
  }
}

}  // namespace causeway

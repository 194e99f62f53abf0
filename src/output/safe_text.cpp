#include "src/output/safe_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/file/utf8.hpp"

namespace causeway {
namespace {

/// Whether a terminal shows the character as itself. The ranges are the control characters, and those "format
/// characters" (Unicode category Cf), separators and private or unassigned planes that show nothing or reorder text.
bool is_visible(std::uint32_t code) {
  const auto in = [&](std::uint32_t low, std::uint32_t high) { return code >= low && code <= high; };
  if (code < 0x20 || in(0x7f, 0x9f)) return false;
  if (code == 0xad || code == 0x61c || code == 0x180e || code == 0xfeff) return false;
  return !in(0x200b, 0x200f) && !in(0x2028, 0x202e) && !in(0x2060, 0x206f) && !in(0xd800, 0xf8ff) &&
         !in(0xfff0, 0xfffb) && code != 0xfffe && code != 0xffff && code < 0xe0000;
}

void append_safe(std::string& out, std::string_view text, std::string_view kept) {
  while (!text.empty()) {
    const Character character = first_character(text);
    const std::string_view bytes = text.substr(0, character.bytes);
    if (is_visible(character.code) || kept.find(bytes) != kept.npos)
      out += bytes;
    else if (character.bytes == 1)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(bytes.front()));
    else
      out += fmt::format("\\u{:04x}", character.code);
    text.remove_prefix(character.bytes);
  }
}

bool continues_a_character(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

}  // namespace

int columns_of(std::string_view text) {
  return static_cast<int>(std::ranges::count_if(text, [](char byte) { return !continues_a_character(byte); }));
}

Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::size_t bytes = utf8_character_bytes(text);
  if (bytes <= 1) return {.code = bytes == 1 ? byte(0) : 0u};
  std::uint32_t code = byte(0) & (0xffu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) code = code << 6 | (byte(i) & 0x3fu);
  return {.code = code, .bytes = bytes};
}

std::size_t incomplete_bytes(std::string_view text) {
  for (std::size_t count = 1; count <= std::min<std::size_t>(3, text.size()); ++count) {
    const auto lead = static_cast<std::uint8_t>(text[text.size() - count]);
    if (continues_a_character(text[text.size() - count])) continue;
    const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    return lead >= 0xc2 && lead <= 0xf4 && count < bytes ? count : 0;
  }
  return 0;
}

std::string one_line(std::string_view text, std::size_t longest) {
  std::string line;
  if (text.size() <= longest) {
    append_safe(line, text, "");
    return line;
  }
  // Both cuts are between two characters.
  std::size_t head = longest * 2 / 3, tail = text.size() - longest / 3;
  for (int i = 0; i < 3 && head > 0 && continues_a_character(text[head]); ++i) --head;
  for (int i = 0; i < 3 && tail < text.size() && continues_a_character(text[tail]); ++i) ++tail;
  append_safe(line, text.substr(0, head), "");
  line += " … ";
  append_safe(line, text.substr(tail), "");
  return line;
}

std::string safe_lines(std::string_view text) {
  std::string lines;
  append_safe(lines, text, "\n\t");
  return lines;
}

}  // namespace causeway

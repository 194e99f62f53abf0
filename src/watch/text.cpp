#include "src/watch/text.hpp"

#include <algorithm>
#include <iterator>
#include <span>

#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

bool is_printable(std::uint32_t code, bool unicode) {
  const auto in = [&](std::uint32_t low, std::uint32_t high) { return code >= low && code <= high; };
  if (in(0x20, 0x7e)) return true;
  if (!unicode || code == 0xad) return false;  // a soft hyphen may take one column or none
  return in(0xa1, 0x17f) || in(0x2010, 0x2026) || in(0x2500, 0x259f) || in(0x2800, 0x28ff);
}

std::string_view sequence(Style style) {
  switch (style) {
    case Style::plain:
      return "";
    case Style::dim:
      return "\033[2m";
    case Style::bold:
      return "\033[1m";
    case Style::good:
      return "\033[32m";
    case Style::warning:
      return "\033[33m";
    case Style::bad:
      return "\033[1;31m";
    case Style::accent:
      return "\033[36m";
  }
  return "";
}

}  // namespace

std::string printable(std::string_view text, bool unicode) {
  std::string out;
  while (!text.empty()) {
    const Character character = first_character(text);
    if (is_printable(character.code, unicode))
      out += text.substr(0, character.bytes);
    else
      out += '?';
    text.remove_prefix(character.bytes);
  }
  return out;
}

std::string render(const Line& line, const Look& look) {
  const auto blank = [](const Span& span) { return span.text.find_first_not_of(' ') == std::string::npos; };
  std::string out;
  int left = look.width;
  // Blanks at the end are not visible, so they are not sent.
  const auto end = std::find_if_not(line.rbegin(), line.rend(), blank).base();
  for (const Span& span : std::span(line.begin(), end)) {
    // Text beyond the width is not processed, however long it is: a character has at most four bytes.
    const std::string text = printable(
        std::string_view(span.text).substr(0, 4 * static_cast<std::size_t>(std::max(left, 0)) + 4), look.unicode);
    std::string_view shown = text;
    if (columns_of(text) > left) {
      std::size_t bytes = 0;
      for (int columns = 0; columns < left; ++columns) bytes += first_character(shown.substr(bytes)).bytes;
      shown = shown.substr(0, bytes);
    }
    left -= columns_of(shown);
    if (&span == &*std::prev(end)) shown = shown.substr(0, shown.find_last_not_of(' ') + 1);
    const std::string_view style = look.colour ? sequence(span.style) : "";
    if (!shown.empty()) out.append(style).append(shown).append(style.empty() ? "" : "\033[0m");
    if (left == 0) break;
  }
  return out;
}

}  // namespace causeway

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

enum class Style : std::uint8_t { plain, dim, bold, good, warning, bad, accent };

/// A piece of a line in one style. It may contain any bytes: render() removes what could control the terminal.
struct Span {
  std::string text;
  Style style = Style::plain;
};
using Line = std::vector<Span>;

/// How lines are shown.
struct Look {
  int width = 80, height = 24;
  bool colour = false;
  bool unicode = true;  ///< false: only ASCII
};

/// `text` with '?' in place of every character that is not printable ASCII or, with `unicode`, a Latin letter,
/// punctuation, a block or a braille character, and of bytes that are not UTF-8. Every character of the result takes
/// one column; none controls the terminal or changes the direction of writing.
std::string printable(std::string_view text, bool unicode);

/// One line, cut to the width. Contains escape sequences only for colours, and only where `look` asks for them.
std::string render(const Line& line, const Look& look);

}  // namespace causeway

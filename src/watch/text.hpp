#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

enum class Style : std::uint8_t { plain, dim, bold, good, warning, bad, accent };

/// A piece of a line in one style. Whatever it holds, render() lets nothing through that could steer a terminal.
struct Span {
  std::string text;
  Style style = Style::plain;
};
using Line = std::vector<Span>;

/// How lines are shown.
struct Look {
  int width = 80, height = 24;
  bool colour = false;
  bool unicode = true;  ///< else ASCII alone
};

/// `text` as a terminal may get it, a column a character: printable ASCII, and with `unicode` Latin letters,
/// punctuation, blocks and braille; '?' for every other character and for what is not UTF-8. (What takes two columns or
/// none, or turns the direction of writing, is not among them.)
std::string printable(std::string_view text, bool unicode);
/// Columns of printable text.
int columns_of(std::string_view printable_text);

/// One line, cut to the width, with escape sequences for colours alone, and those only where the look has them.
std::string render(const Line& line, const Look& look);

}  // namespace causeway

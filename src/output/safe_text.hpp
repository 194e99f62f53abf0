#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace causeway {

/// A character of a UTF-8 text.
struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 1;
};

/// The first character of `text`, which is not empty; code 0 for a byte that begins no valid character.
Character first_character(std::string_view text);

/// The number of bytes at the end of `text` that are the start of a character whose rest is still to come.
std::size_t incomplete_bytes(std::string_view text);

/// The number of columns of a UTF-8 text on a terminal, if every character takes one.
int columns_of(std::string_view text);

/// `text` as one line that is safe to print. Control characters (also those of U+0080 to U+009F), bytes that are not
/// UTF-8, and invisible characters, such as those that change the direction of writing, become escapes: \x1b, \u202e.
/// " … " replaces the middle of a text of more than `longest` bytes: the end of a message often says what was expected.
std::string one_line(std::string_view text, std::size_t longest = 6000);

/// The same for a text of many lines, of any length: line ends and tabs stay.
std::string safe_lines(std::string_view text);

}  // namespace causeway

#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

/// The words of a line as a POSIX shell splits them: blanks separate words, '…' is literal, "…" and \ quote. No word is
/// expanded. Throws Error(usage) for a quote that does not end.
std::vector<std::string> split_words(std::string_view line);

/// The lines of a text. A line end at the end of the text does not start another line.
std::vector<std::string_view> split_lines(std::string_view text);

}  // namespace causeway

#include "src/watch/section.hpp"

#include <fmt/format.h>

#include "src/output/safe_text.hpp"

namespace causeway {

void Row::add(std::string_view text, Style style) {
  // An item fills at most one line, and a character has at most four bytes. Text from a file may be much longer.
  const std::string_view seen = text.substr(0, 4 * static_cast<std::size_t>(look_.width) + 4);
  if (!seen.empty()) items_.push_back({printable(seen, look_.unicode), style});
}

Section Row::section(int importance) const {
  Section section{.importance = importance};
  int used = 0;
  for (const Span& item : items_) {
    const int columns = columns_of(item.text);
    const bool follows = used > label_columns && used + gap_ + columns <= look_.width;
    if (!follows) {
      const std::string_view label = section.lines.empty() ? label_ : "";
      section.lines.push_back({{fmt::format("{:<{}}", label, label_columns), Style::dim}});
      used = label_columns;
    } else {
      section.lines.back().push_back({std::string(static_cast<std::size_t>(gap_), ' ')});
      used += gap_;
    }
    section.lines.back().push_back(item);
    used += columns;
  }
  return section;
}

}  // namespace causeway

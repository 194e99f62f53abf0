#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/watch/text.hpp"

namespace causeway {

/// Lines of a frame that are shown or left out together.
struct Section {
  int importance = 0;  ///< 0 is the most important; sections with large numbers are left out first
  std::vector<Line> lines;
};

/// A label with items to its right, on as many lines as needed.
class Row {
 public:
  /// `gap`: columns between two items.
  Row(std::string_view label, const Look& look, int gap = 2) : label_(label), look_(look), gap_(gap) {}
  /// Adds an item, which is not broken over lines. An empty one is ignored.
  void add(std::string_view text, Style style = Style::plain);
  /// Without items it has no lines.
  Section section(int importance) const;

  static constexpr int label_columns = 9;

 private:
  std::string_view label_;
  const Look& look_;
  int gap_;
  std::vector<Span> items_;
};

}  // namespace causeway

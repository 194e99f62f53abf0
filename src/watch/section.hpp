#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/watch/text.hpp"

namespace causeway {

/// Lines of a frame that are shown or left out together.
struct Section {
  int importance = 0;  ///< of two that do not both fit, the one with the lower number stays
  std::vector<Line> lines;
};

/// A label and, beside it, what there is to say, on as many lines as it takes.
class Row {
 public:
  /// `gap`: columns between two items.
  Row(std::string_view label, const Look& look, int gap = 2) : label_(label), look_(look), gap_(gap) {}
  /// An item, which is not parted; an empty one is left out.
  void add(std::string_view text, Style style = Style::plain);
  /// No line where there is no item.
  Section section(int importance) const;

  static constexpr int label_columns = 9;

 private:
  std::string_view label_;
  const Look& look_;
  int gap_;
  std::vector<Span> items_;
};

}  // namespace causeway

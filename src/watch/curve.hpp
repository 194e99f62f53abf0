#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/watch/series.hpp"

namespace causeway {

/// A curve in characters, from the series' first step to its last over the whole width.
struct Curve {
  std::vector<std::string> rows;  ///< from the top, `columns` characters each
  double low = 0, high = 0;       ///< the values of the lowest and the highest row
  std::int64_t first_step = 0, last_step = 0;
};

/// Braille, two by four dots a character, or asterisks without `unicode`; `marks`, such as held-out losses, are drawn
/// over it as • or o. A few values far above all others are drawn at the top and do not flatten the rest. No rows where
/// the series is empty.
Curve draw_curve(const Series& series, const Series& marks, int columns, int rows, bool unicode);

/// `share` of `columns` as a bar, exact to an eighth of a character.
std::string draw_bar(double share, int columns, bool unicode);
/// A character a value, its height value / highest: ▁▂▃▄▅▆▇█, or digits 0 to 9.
std::string draw_strip(const std::vector<double>& values, double highest, bool unicode);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/watch/series.hpp"

namespace causeway {

/// A curve drawn with characters. Its width spans the series' steps from the first to the last.
struct Curve {
  std::vector<std::string> rows;  ///< from the top, `columns` characters each
  double low = 0, high = 0;       ///< the values of the lowest and the highest row
  double highest = 0;             ///< the largest value; more than `high` where the curve is cut off
  std::int64_t first_step = 0, last_step = 0;
};

/// Draws `series` with braille characters of 2 × 4 dots, or with asterisks without `unicode`; and `marks`, such as
/// held-out losses, over it as • or o. Has no rows where the series is empty.
///
/// The axis is linear and made for the values that most steps have: a loss that falls from 6 to 1.4 in the first steps
/// would make a flat line of all later ones. It ends at p + (p - low), p being the value that four fifths of the values
/// do not exceed, but not below the values of the last tenth. What is above it is cut off, with ^ in the top row.
Curve draw_curve(const Series& series, const Series& marks, int columns, int rows, bool unicode);

/// A bar that fills `share` of `columns`, exact to an eighth of a character.
std::string draw_bar(double share, int columns, bool unicode);
/// One character for each value, with height value / highest: ▁▂▃▄▅▆▇█, or digits 0 to 9.
std::string draw_strip(const std::vector<double>& values, double highest, bool unicode);

}  // namespace causeway

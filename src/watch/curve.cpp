#include "src/watch/curve.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

/// A character of the Basic Multilingual Plane above U+07FF.
std::string utf8(std::uint32_t code) {
  return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

/// The ranges of the curve's axes.
struct Axes {
  double low = 0, high = 0, highest = 0;
  std::int64_t first_step = 0, last_step = 0;

  /// 0 at the first step, 1 at the last.
  double across(double step) const {
    const double length = static_cast<double>(last_step) - static_cast<double>(first_step);
    return length > 0 ? std::clamp((step - static_cast<double>(first_step)) / length, 0.0, 1.0) : 0.5;
  }
  /// 0 at the top, 1 at the bottom.
  double down(double value) const { return high > low ? std::clamp((high - value) / (high - low), 0.0, 1.0) : 0.5; }
};

/// The value that `share` of the values do not exceed.
double quantile(std::vector<double> values, double share) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

Axes axes_of(const Series& series, const Series& marks) {
  std::vector<double> values;
  Axes axes{.first_step = series.buckets().front().first_step, .last_step = series.buckets().front().last_step};
  for (const Series* each : {&series, &marks})
    for (const Series::Bucket& bucket : each->buckets()) {
      values.push_back(bucket.mean());
      axes.first_step = std::min(axes.first_step, bucket.first_step);
      axes.last_step = std::max(axes.last_step, bucket.last_step);
    }
  const auto last_tenth = static_cast<std::ptrdiff_t>((series.buckets().size() + 9) / 10);
  const auto end_of_series = values.begin() + static_cast<std::ptrdiff_t>(series.buckets().size());
  const double usual = quantile(values, 0.8), recent = quantile({end_of_series - last_tenth, end_of_series}, 0.5);
  axes.low = std::ranges::min(values);
  axes.highest = std::ranges::max(values);
  axes.high = std::min(axes.highest, std::max(usual + (usual - axes.low), recent + 0.2 * (recent - axes.low)));
  if (!(axes.high > axes.low)) axes.high = axes.highest;
  return axes;
}

int index_of(double share, int count) { return std::min(static_cast<int>(share * count), count - 1); }

/// The series' mean in each of `columns` columns. Columns without values are interpolated linearly between their
/// neighbours.
std::vector<std::optional<double>> columns_of(const Series& series, const Axes& axes, int columns) {
  std::vector<double> sums(static_cast<std::size_t>(columns)), counts(sums.size());
  for (const Series::Bucket& bucket : series.buckets()) {
    const double middle = 0.5 * (static_cast<double>(bucket.first_step) + static_cast<double>(bucket.last_step));
    const auto column = static_cast<std::size_t>(index_of(axes.across(middle), columns));
    sums[column] += bucket.mean();
    ++counts[column];
  }
  std::vector<std::optional<double>> means(sums.size());
  std::optional<std::size_t> before;
  for (std::size_t column = 0; column < means.size(); ++column) {
    if (counts[column] == 0) continue;
    means[column] = sums[column] / counts[column];
    for (std::size_t between = before.value_or(column) + 1; between < column; ++between) {
      const double share = static_cast<double>(between - *before) / static_cast<double>(column - *before);
      means[between] = *means[*before] + share * (*means[column] - *means[*before]);
    }
    before = column;
  }
  return means;
}

/// Dots on a grid that is finer than the characters.
class Canvas {
 public:
  Canvas(int columns, int rows, bool unicode)
      : columns_(columns),
        rows_(rows),
        across_(unicode ? 2 : 1),
        down_(unicode ? 4 : 1),
        cells_(static_cast<std::size_t>(columns * rows)) {}

  int dots_across() const { return columns_ * across_; }
  int dots_down() const { return rows_ * down_; }
  void set(int x, int y) { cell(x / across_, y / down_) |= dot(x % across_, y % down_); }
  std::string character(int column, int row) const {
    const std::uint8_t dots = cells_[static_cast<std::size_t>(row * columns_ + column)];
    if (dots == 0) return " ";
    return down_ == 1 ? "*" : utf8(0x2800u + dots);
  }

 private:
  std::uint8_t& cell(int column, int row) { return cells_[static_cast<std::size_t>(row * columns_ + column)]; }
  static std::uint8_t dot(int x, int y) {
    constexpr std::uint8_t bits[4][2] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};  // the bits of U+2800 to U+28FF
    return bits[y][x];
  }

  int columns_, rows_, across_, down_;
  std::vector<std::uint8_t> cells_;
};

}  // namespace

Curve draw_curve(const Series& series, const Series& marks, int columns, int rows, bool unicode) {
  if (series.buckets().empty() || columns < 1 || rows < 1) return {};
  const Axes axes = axes_of(series, marks);
  Canvas canvas(columns, rows, unicode);
  const auto means = columns_of(series, axes, canvas.dots_across());
  std::optional<int> before;
  std::vector<bool> cut_off(static_cast<std::size_t>(columns));
  for (int x = 0; x < canvas.dots_across(); ++x) {
    const auto& mean = means[static_cast<std::size_t>(x)];
    if (!mean) continue;
    const int y = index_of(axes.down(*mean), canvas.dots_down());
    if (*mean > axes.high) cut_off[static_cast<std::size_t>(x * columns / canvas.dots_across())] = true;
    // Where the curve is steep, fill the dots from the last one up or down to this one.
    const int from = !before || *before == y ? y : *before < y ? *before + 1 : *before - 1;
    for (int dot = std::min(from, y); dot <= std::max(from, y); ++dot) canvas.set(x, dot);
    before = y;
  }
  std::vector<bool> marked(static_cast<std::size_t>(columns * rows));
  for (const Series::Bucket& bucket : marks.buckets()) {
    const int column = index_of(axes.across(static_cast<double>(bucket.last_step)), columns),
              row = index_of(axes.down(bucket.mean()), rows);
    marked[static_cast<std::size_t>(row * columns + column)] = true;
  }
  Curve curve{.low = axes.low,
              .high = axes.high,
              .highest = axes.highest,
              .first_step = axes.first_step,
              .last_step = axes.last_step};
  for (int row = 0; row < rows; ++row) {
    std::string text;
    for (int column = 0; column < columns; ++column) {
      if (row == 0 && cut_off[static_cast<std::size_t>(column)])
        text += "^";
      else if (marked[static_cast<std::size_t>(row * columns + column)])
        text += unicode ? "•" : "o";
      else
        text += canvas.character(column, row);
    }
    curve.rows.push_back(std::move(text));
  }
  return curve;
}

std::string draw_bar(double share, int columns, bool unicode) {
  share = share > 0 ? std::min(share, 1.0) : 0;
  const int parts = unicode ? 8 : 1;
  const int filled = static_cast<int>(std::lround(share * columns * parts));
  std::string bar;
  for (int column = 0; column < columns; ++column) {
    const int part = std::clamp(filled - column * parts, 0, parts);
    if (!unicode)
      bar += part > 0 ? "#" : ".";
    else
      bar += part == 0 ? "·" : utf8(0x2590u - static_cast<std::uint32_t>(part));  // U+2588 █ to U+258F ▏
  }
  return bar;
}

std::string draw_strip(const std::vector<double>& values, double highest, bool unicode) {
  std::string strip;
  for (const double value : values) {
    const double share = value > 0 && highest > 0 ? std::min(value / highest, 1.0) : 0;
    strip += unicode ? utf8(0x2581u + static_cast<std::uint32_t>(std::lround(7 * share)))
                     : std::string(1, static_cast<char>('0' + std::lround(9 * share)));
  }
  return strip;
}

}  // namespace causeway

#include "src/watch/curve.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "src/watch/text.hpp"

namespace causeway::test {
namespace {

Series line(std::int64_t steps, double from, double to) {
  Series series;
  for (std::int64_t step = 0; step < steps; ++step)
    series.add(step, from + (to - from) * static_cast<double>(step) / static_cast<double>(steps - 1));
  return series;
}

TEST(WatchCurve, AFallingLineRunsFromCornerToCorner) {
  const Curve curve = draw_curve(line(100, 4, 1), {}, 8, 4, false);
  const std::vector<std::string> expected = {"**      ", "  **    ", "    **  ", "      **"};
  EXPECT_EQ(curve.rows, expected);
  EXPECT_EQ(curve.high, 4);
  EXPECT_EQ(curve.low, 1);
  EXPECT_EQ(draw_curve(line(100, 1, 4), {}, 4, 1, true).rows.front(), "⣀⠤⠒⠉");
}

TEST(WatchCurve, FewPointsAreJoinedByStraightLines) {
  const Curve curve = draw_curve(line(2, 4, 1), {}, 8, 4, false);
  for (std::size_t column = 0; column < 8; ++column) {
    bool drawn = false;
    for (const std::string& row : curve.rows) drawn = drawn || row[column] == '*';
    EXPECT_TRUE(drawn) << column;
  }
}

TEST(WatchCurve, AnOutlierDoesNotFlattenTheRest) {
  Series series = line(400, 3, 2);
  series.add(400, 1e6);
  const Curve curve = draw_curve(series, {}, 40, 6, false);
  EXPECT_LT(curve.high, 10);
  EXPECT_EQ(curve.rows.front().back(), '*');
}

TEST(WatchCurve, HeldOutLossesAreDots) {
  Series marks;
  marks.add(50, 2.5);
  const Curve curve = draw_curve(line(100, 4, 1), marks, 20, 4, false);
  EXPECT_NE(curve.rows[2].find('o'), std::string::npos);
}

TEST(WatchCurve, UnusualSeriesAreDrawn) {
  EXPECT_TRUE(draw_curve({}, {}, 10, 4, true).rows.empty());
  EXPECT_TRUE(draw_curve(line(3, 1, 2), {}, 0, 4, true).rows.empty());
  Series wild;
  wild.add(std::numeric_limits<std::int64_t>::max(), -1e250);
  wild.add(0, 1e250);
  wild.add(std::numeric_limits<std::int64_t>::min(), 0);
  for (const bool unicode : {false, true})
    for (const std::string& row : draw_curve(wild, wild, 30, 5, unicode).rows) EXPECT_EQ(columns_of(row), 30);
}

TEST(WatchCurve, BarsAndStrips) {
  EXPECT_EQ(draw_bar(0.5, 10, false), "#####.....");
  EXPECT_EQ(draw_bar(0.5, 3, true), "█▌·");
  EXPECT_EQ(draw_bar(7, 3, true), "███");
  EXPECT_EQ(draw_bar(std::numeric_limits<double>::quiet_NaN(), 3, false), "...");
  EXPECT_EQ(draw_strip({0, 0.5, 1, 2}, 1, false), "0599");
  EXPECT_EQ(draw_strip({0, 1}, 1, true), "▁█");
}

}  // namespace
}  // namespace causeway::test

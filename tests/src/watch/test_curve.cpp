#include "src/watch/curve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "src/output/safe_text.hpp"
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
  EXPECT_EQ(curve.rows.front().back(), '^');
  EXPECT_EQ(curve.highest, 1e6);
}

/// The number of rows that the last half of the curve spans.
std::int64_t rows_of_last_half(const Curve& curve) {
  return std::ranges::count_if(curve.rows, [](const std::string& row) {
    return row.substr(row.size() / 2).find_first_not_of(' ') != std::string::npos;
  });
}

TEST(WatchCurve, AFirstDropDoesNotFlattenWhatFollows) {
  // From 6 to 1.4 within 50 of 1,000 steps, then slowly to 1.38.
  Series series;
  for (int step = 1; step <= 1000; ++step)
    series.add(step, step <= 50 ? 6 - 4.6 * step / 50.0 : 1.4 - 0.02 * (step - 50) / 950.0);
  const Curve curve = draw_curve(series, {}, 60, 8, false);
  EXPECT_EQ(curve.low, 1.38);
  EXPECT_LT(curve.high, 1.45);
  EXPECT_NEAR(curve.highest, 5.908, 1e-9);
  EXPECT_GE(rows_of_last_half(curve), 3);
  EXPECT_EQ(curve.rows.front().substr(0, 3), "^^^");
  EXPECT_EQ(curve.rows.front().find('^', 4), std::string::npos) << "only the drop is cut off";
  // The same of three values, as at the start of a run.
  Series three;
  for (const auto& [step, loss] : {std::pair(1, 6.0), {2, 1.4}, {3, 1.38}}) three.add(step, loss);
  const Curve few = draw_curve(three, {}, 30, 6, false);
  EXPECT_LT(few.high, 1.5);
  EXPECT_EQ(few.rows.front()[0], '^');
}

TEST(WatchCurve, AHeldOutLossBeforeTrainingDoesNotFlattenTheCurve) {
  Series marks;
  for (const auto& [step, loss] : {std::pair(0, 6.0), {50, 1.41}, {100, 1.4}}) marks.add(step, loss);
  EXPECT_LT(draw_curve(line(100, 1.5, 1.38), marks, 40, 6, false).high, 2);
}

TEST(WatchCurve, ALossThatRoseForATenthOfTheStepsIsShown) {
  Series series = line(400, 1.5, 1.4);
  for (int step = 400; step < 460; ++step) series.add(step, 3);
  const Curve curve = draw_curve(series, {}, 40, 6, false);
  EXPECT_EQ(curve.high, 3);
  EXPECT_EQ(curve.rows.front().back(), '*');
}

TEST(WatchCurve, AFlatCurveHasAnAxis) {
  Series flat;
  for (int step = 0; step < 20; ++step) flat.add(step, 1.386);
  const Curve curve = draw_curve(flat, {}, 10, 3, false);
  EXPECT_EQ(curve.rows[1], "**********");
  flat.add(20, 6);
  EXPECT_EQ(draw_curve(flat, {}, 10, 3, false).high, 6);
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

#include "parallel/cost/repeated_seconds.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace causeway::test {
namespace {

RepeatedSeconds of(const std::vector<double>& times) {
  RepeatedSeconds repeated;
  for (const double time : times) repeated.add(time);
  return repeated;
}

TEST(RepeatedSeconds, SettlesWhenTheFastestTimeRepeats) {
  EXPECT_FALSE(of({}).settled());
  EXPECT_TRUE(std::isinf(of({}).seconds()));
  EXPECT_FALSE(of({1, 1}).settled());
  EXPECT_TRUE(of({1, 1.1, 1.19}).settled());
  EXPECT_FALSE(of({1, 1.1, 1.3}).settled());
  EXPECT_TRUE(of({1.3, 1, 40, 1.1, 1.15}).settled());
  EXPECT_EQ(of({1.3, 1, 40, 1.1, 1.15}).seconds(), 1);
  EXPECT_EQ(of({1, 2, 4}).total(), 7);
}

TEST(RepeatedSeconds, RunsThatAreDisturbedAlikeDoNotCountOnceOneWasNot) {
  // Five hundred times slower, several times in a row: it seems settled, until one run is not disturbed.
  RepeatedSeconds repeated = of({0.5, 0.51, 0.52, 0.5});
  EXPECT_TRUE(repeated.settled());
  repeated.add(0.001);
  EXPECT_FALSE(repeated.settled());
  repeated.add(0.49);
  repeated.add(0.00105);
  EXPECT_FALSE(repeated.settled());
  repeated.add(0.0011);
  EXPECT_TRUE(repeated.settled());
  EXPECT_EQ(repeated.seconds(), 0.001);
}

}  // namespace
}  // namespace causeway::test

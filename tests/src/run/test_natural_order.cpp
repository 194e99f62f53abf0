#include "src/run/natural_order.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace causeway::test {
namespace {

TEST(NaturalOrder, NumbersInNamesAreComparedByValue) {
  const std::vector<std::string> expected = {"",       "gpu",         "layers.2.x", "layers.10.a", "node1",  "node9",
                                             "node10", "node10-rack", "node099",    "node100",     "step-6", "step-10"};
  std::vector<std::string> names = expected;
  std::ranges::reverse(names);
  std::ranges::sort(names, NaturalLess());
  EXPECT_EQ(names, expected);
}

TEST(NaturalOrder, IsAStrictOrderAlsoOfNumbersBeyond64Bits) {
  const NaturalLess less;
  EXPECT_TRUE(less("x99999999999999999999998", "x99999999999999999999999"));
  EXPECT_TRUE(less("x9", "x99999999999999999999999"));
  EXPECT_FALSE(less("x1", "x1"));
  EXPECT_NE(less("x01", "x1"), less("x1", "x01"));
  EXPECT_TRUE(less("a1", "\xc3\xa9"));  // bytes are unsigned
}

}  // namespace
}  // namespace causeway::test

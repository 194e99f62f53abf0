#include "kernels/core/random.hpp"

#include <gtest/gtest.h>

#include <set>

namespace causeway::test {
namespace {

using Counter = std::array<std::uint32_t, 4>;

// The known answers (kat_vectors) of Random123 1.14 for philox4x32-10.
static_assert(philox({0, 0, 0, 0}, {0, 0}) == Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
static_assert(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
static_assert(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
              Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});

TEST(Philox, EqualsTheKnownAnswersOfRandom123) {
  const Counter zeros = philox({0, 0, 0, 0}, {0, 0});  // at run time, not only at compile time
  EXPECT_EQ(zeros, (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
}

TEST(RandomStream, EverySeedStreamAndIndexBitChangesTheDraw) {
  std::set<std::uint64_t> seen{RandomStream(0, 0).bits(0)};
  for (int bit = 0; bit < 64; ++bit) {
    seen.insert(RandomStream(std::uint64_t{1} << bit, 0).bits(0));
    seen.insert(RandomStream(0, std::uint64_t{1} << bit).bits(0));
    seen.insert(RandomStream(0, 0).bits(std::uint64_t{1} << bit));
  }
  EXPECT_EQ(seen.size(), 1u + 3 * 64);
}

TEST(RandomStream, UniformHasTheMomentsOfTheUnitIntervalAndStaysInside) {
  const RandomStream draws(42, 7);
  constexpr int count = 200000;
  double sum = 0, squares = 0, previous = 0.5, lagged = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const double u = draws.uniform(i);
    ASSERT_TRUE(u > 0 && u < 1);
    sum += u, squares += (u - 0.5) * (u - 0.5), lagged += (u - 0.5) * (previous - 0.5);
    previous = u;
  }
  // Four standard errors each.
  EXPECT_NEAR(sum / count, 0.5, 4 * std::sqrt(1. / 12 / count));
  EXPECT_NEAR(squares / count, 1. / 12, 4 * std::sqrt(1. / 180 / count));
  EXPECT_NEAR(lagged / count, 0, 4 / 12. / std::sqrt(count));
}

TEST(RandomStream, NormalHasTheMomentsOfAStandardNormal) {
  const RandomStream draws(42, 8);
  constexpr int count = 200000;
  double moments[5] = {};
  for (std::uint64_t i = 0; i < count; ++i) {
    const double x = draws.normal(i);
    for (double power = 1; double& moment : moments) moment += power, power *= x;
  }
  EXPECT_NEAR(moments[1] / count, 0, 4 * std::sqrt(1. / count));
  EXPECT_NEAR(moments[2] / count, 1, 4 * std::sqrt(2. / count));
  EXPECT_NEAR(moments[3] / count, 0, 4 * std::sqrt(15. / count));
  EXPECT_NEAR(moments[4] / count, 3, 4 * std::sqrt(96. / count));
}

TEST(RandomStream, BelowStaysBelowItsBoundAndReachesEveryValue) {
  const RandomStream draws(1, 2);
  for (const std::uint64_t bound : {1u, 2u, 3u, 10u, 97u}) {
    std::vector<int> counts(bound);
    for (std::uint64_t i = 0; i < 1000 * bound; ++i) {
      const std::uint64_t value = draws.below(i, bound);
      ASSERT_LT(value, bound);
      ++counts[value];
    }
    for (const int n : counts) EXPECT_NEAR(n, 1000, 160);
  }
  EXPECT_LT(draws.below(5, ~std::uint64_t{0}), ~std::uint64_t{0});
}

}  // namespace
}  // namespace causeway::test

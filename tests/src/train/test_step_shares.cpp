#include "src/train/step_shares.hpp"

#include <gtest/gtest.h>

#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {
TEST(StepShares, SumsMeansTheLargestAndWhoIsSlowest) {
  on_ranks(3, [](Communicator& world) {
    const double rank = world.rank();
    const StepShares shares = gather_shares(world, {.step_s = (world.rank() == 1 ? 4.0 : 1.0) + rank,
                                                    .exposed_s = rank,
                                                    .hidden_s = 2 * rank,
                                                    .bytes_sent = 100 + world.rank(),
                                                    .memory_bytes = 10 * world.rank()});
    EXPECT_DOUBLE_EQ(shares.step_s, 3);
    EXPECT_DOUBLE_EQ(shares.compute_s, 2);
    EXPECT_DOUBLE_EQ(shares.exposed_s, 1);
    EXPECT_DOUBLE_EQ(shares.hidden_s, 2);
    EXPECT_DOUBLE_EQ(shares.balance, 0.5);
    EXPECT_EQ(shares.slowest_rank, 1);
    EXPECT_EQ(shares.bytes_sent, 303);
    EXPECT_EQ(shares.memory_bytes, 20);
  });
}

TEST(StepShares, RanksThatComputedNothingAreBalanced) {
  on_ranks(2, [](Communicator& world) { EXPECT_EQ(gather_shares(world, {}).balance, 1); });
}

}  // namespace
}  // namespace causeway::test

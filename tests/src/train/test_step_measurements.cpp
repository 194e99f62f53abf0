#include "src/train/step_measurements.hpp"

#include <gtest/gtest.h>

#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {
TEST(StepMeasurements, CombinesTheRanksAndNamesTheSlowest) {
  on_ranks(3, [](Communicator& world) {
    const double rank = world.rank();
    const StepMeasurements combined = gather_measurements(world, {.step_s = (world.rank() == 1 ? 4.0 : 1.0) + rank,
                                                                  .exposed_s = rank,
                                                                  .hidden_s = 2 * rank,
                                                                  .bytes_sent = 100 + world.rank(),
                                                                  .memory_bytes = 10 * world.rank()});
    EXPECT_DOUBLE_EQ(combined.step_s, 3);
    EXPECT_DOUBLE_EQ(combined.compute_s, 2);
    EXPECT_DOUBLE_EQ(combined.exposed_s, 1);
    EXPECT_DOUBLE_EQ(combined.hidden_s, 2);
    EXPECT_DOUBLE_EQ(combined.balance, 0.5);
    EXPECT_EQ(combined.slowest_rank, 1);
    EXPECT_EQ(combined.bytes_sent, 303);
    EXPECT_EQ(combined.memory_bytes, 20);
  });
}

TEST(StepMeasurements, RanksWithoutComputingTimeAreBalanced) {
  on_ranks(2, [](Communicator& world) { EXPECT_EQ(gather_measurements(world, {}).balance, 1); });
}

}  // namespace
}  // namespace causeway::test

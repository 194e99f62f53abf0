#include "parallel/measure.hpp"

#include <gtest/gtest.h>

#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {

TEST(Measure, IsTheSameOnEveryRankAndIsNotCounted) {
  for (const int ranks : {1, 3})
    on_ranks(ranks, [](Communicator& world) {
      const Traffic before = world.traffic();
      const Stream stream;
      const Machine machine = measure(world, DType::f32, stream);
      EXPECT_EQ(world.traffic().messages_sent, before.messages_sent);
      for (const double figure : {machine.latency_s, machine.bytes_per_s, machine.operations_per_s}) {
        EXPECT_GT(figure, 0);
        EXPECT_EQ(figure, world.max(figure));
        EXPECT_EQ(figure, -world.max(-figure));
      }
      EXPECT_LT(machine.latency_s, 1);
      EXPECT_GT(machine.operations_per_s, 1e6);
      EXPECT_EQ(stream.memory().live_bytes(), 0);
    });
}

TEST(Measure, TheSlowestRankSpeaksForAll) {
  on_ranks(3, [](Communicator& world) {
    const double rank = world.rank();
    const Machine all =
        slowest({.latency_s = 1 + rank, .bytes_per_s = 10 + rank, .operations_per_s = 100 - rank}, world);
    EXPECT_EQ(all.latency_s, 3);
    EXPECT_EQ(all.bytes_per_s, 10);
    EXPECT_EQ(all.operations_per_s, 98);
  });
}

}  // namespace
}  // namespace causeway::test

#include "parallel/cost/measure.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {

class Measure : public testing::TestWithParam<std::tuple<int, Device>> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Measure, testing::Combine(testing::Values(1, 2, 3), testing::ValuesIn(devices())),
                         [](const auto& instance) {
                           return std::to_string(std::get<0>(instance.param)) + suffix_of(std::get<1>(instance.param));
                         });

TEST_P(Measure, IsTheSameOnEveryRankAndDoesNotCountAsTraffic) {
  const auto& [ranks, device] = GetParam();
  on_ranks(ranks, device, [](Communicator& world, const Stream& stream) {
    const Traffic before = world.traffic();
    const std::int64_t bytes_before = stream.memory().live_bytes();
    const Machine machine = measure(world, DType::f32, stream);
    EXPECT_EQ(world.traffic().messages_sent, before.messages_sent);
    for (const double figure : {machine.latency_s, machine.bytes_per_s, machine.operations_per_s}) {
      EXPECT_GT(figure, 0);
      EXPECT_EQ(figure, world.max(figure));
      EXPECT_EQ(figure, -world.max(-figure));
    }
    EXPECT_LT(machine.latency_s, 1);
    EXPECT_GT(machine.operations_per_s, 1e6);
    world.barrier();  // threads that share a GPU free a message only after its receiver has read it
    EXPECT_EQ(stream.memory().live_bytes(), bytes_before);
    if (world.rank() == 0 && stream.device() == Device::cuda)
      fmt::print("{} ranks on GPUs: latency {:.1f} us, {:.1f} GB/s a rank, {:.1f} T multiply-adds/s\n", world.size(),
                 machine.latency_s * 1e6, machine.bytes_per_s * 1e-9, machine.operations_per_s * 1e-12);
  });
}

TEST(SlowestMachine, IsTheResultOnAllRanks) {
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

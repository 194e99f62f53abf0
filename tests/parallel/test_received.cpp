/// Received: a forward pass that is computed again takes the halos and states that it received, and sends nothing.

#include "parallel/received.hpp"

#include <gtest/gtest.h>

#include "tests/parallel/strategy_cases.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

class RepeatedPass : public testing::TestWithParam<Device> {};
INSTANTIATE_TEST_SUITE_P(Received, RepeatedPass, testing::ValuesIn(devices()),
                         [](const auto& instance) { return "on" + suffix_of(instance.param); });

TEST_P(RepeatedPass, SendsNeitherHalosNorStatesAndHasTheSameBits) {
  const std::vector<StrategyCase>& cases = every_strategy_case();
  on_ranks(3, GetParam(), [&](Communicator& world, const Stream& stream) {
    std::int64_t sent_by_first_passes = 0;  // a filter of one tap needs no halo
    for (const StrategyCase& tested : cases) {
      const bool point_to_point =
          tested.strategy.find("halo") != std::string::npos || tested.strategy.find("state_carry") != std::string::npos;
      for (const Layout layout : tested.layouts) {
        SCOPED_TRACE(fmt::format("{} {}", tested.strategy, name_of(layout)));
        constexpr std::int64_t tokens = 101;
        const Stream host;
        const Sharding sharding(ShardLayout(tokens, 3, layout), Segments({0, 30, 71, tokens}), world.rank(), stream);
        const Tensors in = local_inputs(host, sharding, tested.inputs(host, DType::f32, tokens, 5));
        Received received;
        StrategyContext context = context_of(tested, sharding, world, stream);
        context.received = &received;
        const auto run = [&] {
          const std::int64_t before = world.traffic().bytes_sent;
          std::vector<double> y = values_of(tested.run_forward(context, in));
          return std::pair(std::move(y), world.sum(world.traffic().bytes_sent - before));
        };
        const auto [first, sent] = run();
        sent_by_first_passes += sent;
        for (int repetition = 0; repetition < 2; ++repetition) {
          received.rewind();
          const auto [again, sent_again] = run();
          EXPECT_EQ(again, first);
          EXPECT_EQ(sent_again, point_to_point ? 0 : sent);
        }
      }
    }
    EXPECT_GT(sent_by_first_passes, 0);
  });
}

TEST(Received, ARepetitionMustReceiveTheSameTensors) {
  const Stream stream;
  Received received;
  const Tensor x = random_tensor(stream, DType::f32, {2}, 1), other(stream, DType::f32, {3});
  received.pass(stream, x);
  received.rewind();
  const Tensor y = Tensor::zeros(stream, DType::f32, {2});
  received.pass(stream, y);
  EXPECT_EQ(values_of(y), values_of(x));
  EXPECT_THROW(received.pass(stream, y), Error);
  received.rewind();
  EXPECT_THROW(received.pass(stream, other), Error);
}

}  // namespace
}  // namespace causeway::test

#include <gtest/gtest.h>

#include <cmath>

#include "parallel/strategy.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

struct Result {
  Tensor y, d_q, d_k, d_v;
  Traffic forward;
};

/// Forward and backward of one strategy on this rank's rows.
Result run(std::string_view strategy, Communicator& world, const Sharding& sharding, const Shape& whole) {
  const Stream stream;
  const auto input = [&](std::uint64_t seed) {
    return local_rows(stream, sharding, random_tensor(stream, DType::f64, whole, seed));
  };
  const Tensor q = input(1), k = input(2), v = input(3), d_y = input(4);
  const auto room = [&] { return Tensor(stream, DType::f64, q.view().shape); };
  Result result{room(), room(), room(), room(), {}};
  const StrategyContext context{sharding, world, stream};
  const AttentionStrategy& row = find_strategy(attention_strategies(), "attention", strategy);
  const Traffic before = world.traffic();
  Saved saved;
  row.forward(context, {.q = q, .k = k, .v = v, .rope_base = 100, .y = result.y}, &saved);
  result.forward = world.traffic();
  result.forward.messages_sent -= before.messages_sent;
  result.forward.bytes_sent -= before.bytes_sent;
  row.backward(context,
               {.q = q,
                .k = k,
                .v = v,
                .rope_base = 100,
                .d_y = d_y,
                .d_q = result.d_q,
                .d_k = result.d_k,
                .d_v = result.d_v},
               saved);
  return result;
}

TEST(AttentionRing, LongBlocksGoRoundInSlicesOfWholeHeadsWithTheSameResult) {
  constexpr int ranks = 3;
  // A rank's keys and values are 3.5 MiB: three slices of the five heads, of 1, 2 and 2.
  const Shape whole{ranks * 360, 5, 128};
  on_ranks(ranks, [&](Communicator& world) {
    for (const Layout layout : every_layout) {
      const Sharding sharding(ShardLayout(whole[0], ranks, layout), Segments({0, 300, 700, 1080}), world.rank());
      const Result ring = run("ring", world, sharding, whole), gathered = run("all_gather", world, sharding, whole);
      EXPECT_LE(relative_error(ring.y, gathered.y), 1e-13);
      EXPECT_LE(relative_error(ring.d_q, gathered.d_q), 1e-13);
      EXPECT_LE(relative_error(ring.d_k, gathered.d_k), 1e-13);
      EXPECT_LE(relative_error(ring.d_v, gathered.d_v), 1e-13);
      EXPECT_EQ(ring.forward.messages_sent, 3 * (ranks - 1));
      EXPECT_EQ(ring.forward.bytes_sent, gathered.forward.bytes_sent);
    }
  });
}

}  // namespace
}  // namespace causeway::test

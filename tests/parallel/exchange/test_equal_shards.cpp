#include "parallel/exchange/equal_shards.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "parallel/layout/sharding.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

class EqualShards : public testing::TestWithParam<int> {
 protected:
  /// Runs body(world, stream, sharding) for every awkward pack.
  template <class Body>
  void for_every_pack(Body body) {
    on_ranks(GetParam(), [&](Communicator& world) {
      for (const NamedPack& pack : awkward_packs(world.size(), Layout::contiguous)) {
        SCOPED_TRACE(pack.name);
        body(world, Stream(),
             Sharding(ShardLayout(pack.segments.tokens(), world.size(), Layout::contiguous), pack.segments,
                      world.rank()));
      }
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, EqualShards, testing::ValuesIn(rank_counts));

constexpr std::int64_t channels = 3;

std::vector<Tensor> random_shards(const Stream& stream, const SpanPlan& plan, std::uint64_t seed) {
  std::vector<Tensor> shards;
  for (const SpanningDocument& document : plan.spanning)
    shards.push_back(random_tensor(stream, DType::f64, {document.shard(), channels}, seed++));
  return shards;
}

TEST_P(EqualShards, HoldTheRowsOfTheDocumentAndZerosAfterThem) {
  for_every_pack([](Communicator& world, const Stream& stream, const Sharding& sharding) {
    const SpanPlan& plan = sharding.span_plan();
    const Tensor whole = random_tensor(stream, DType::f64, {sharding.layout().tokens(), channels}, 5);
    const std::vector<Tensor> shards = random_shards(stream, plan, 6);
    to_equal_shards(plan, local_rows(stream, sharding, whole), std::vector<TensorView>(shards.begin(), shards.end()),
                    world, stream);
    for (std::size_t i = 0; i < shards.size(); ++i) {
      const SpanningDocument& document = plan.spanning[i];
      std::vector<double> expected;
      for (std::int64_t row = 0; row < document.shard(); ++row) {
        const std::int64_t token = document.tokens.begin + document.position * document.shard() + row;
        for (std::int64_t d = 0; d < channels; ++d)
          expected.push_back(token < document.tokens.end ? whole.view().row<double>(token)[d] : 0);
      }
      EXPECT_EQ(values_of(shards[i]), expected);
    }
  });
}

TEST_P(EqualShards, ReturnTheRowsAndDoNotChangeOthers) {
  for_every_pack([](Communicator& world, const Stream& stream, const Sharding& sharding) {
    const SpanPlan& plan = sharding.span_plan();
    // Columns of a wider matrix, like a slice of the channels.
    const Tensor local = random_tensor(stream, DType::f64, {sharding.local_tokens(), channels}, 7),
                 blank = random_tensor(stream, DType::f64, {sharding.local_tokens(), channels}, 8);
    const Padded from(stream, local), to(stream, blank);
    const std::vector<Tensor> shards = random_shards(stream, plan, 9);
    const std::vector<TensorView> views(shards.begin(), shards.end());
    to_equal_shards(plan, from, views, world, stream);
    from_equal_shards(plan, views, to, world, stream);
    for (std::int64_t row = 0; row < sharding.local_tokens(); ++row) {
      const bool own = row >= plan.unshared_rows.begin && row < plan.unshared_rows.end;
      EXPECT_TRUE(same_bits(to.view().slice_rows(row, 1), (own ? blank : local).view().slice_rows(row, 1))) << row;
    }
    EXPECT_TRUE(to.padding_untouched());
  });
}

TEST_P(EqualShards, FromEqualShardsIsTheAdjointOfToEqualShards) {
  for_every_pack([](Communicator& world, const Stream& stream, const Sharding& sharding) {
    const SpanPlan& plan = sharding.span_plan();
    const auto seed = static_cast<std::uint64_t>(10 * world.rank());
    const Tensor x = random_tensor(stream, DType::f64, {sharding.local_tokens(), channels}, seed),
                 back = Tensor::zeros(stream, DType::f64, x.view().shape);
    const std::vector<Tensor> there = random_shards(stream, plan, 0), g = random_shards(stream, plan, seed + 100);
    to_equal_shards(plan, x, std::vector<TensorView>(there.begin(), there.end()), world, stream);
    from_equal_shards(plan, std::vector<TensorView>(g.begin(), g.end()), back, world, stream);
    double product = 0, scale = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      product += dot(there[i], g[i]);
      scale += norm(values_of(there[i])) * norm(values_of(g[i]));
    }
    EXPECT_LE(std::abs(world.sum(product) - world.sum(dot(x, back))), 1e-14 * world.sum(scale));
  });
}

}  // namespace
}  // namespace causeway::test

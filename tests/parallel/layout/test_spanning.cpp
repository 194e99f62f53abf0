#include "parallel/layout/spanning.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "parallel/layout/sharding.hpp"
#include "parallel/strategy.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

TEST(SpanPlan, EveryRowIsOfADocumentOfItsRankAloneOrOfOneThatSpansRanks) {
  for (const auto& [layout, segments] : random_packs(contiguous_layout))
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      const Range held = layout.chunk(rank);
      const SpanPlan plan = plan_spans(layout, segments, rank);
      EXPECT_LE(plan.spanning.size(), 2);
      for (std::int64_t t = held.begin; t < held.end; ++t) {
        const Range document{segments.start_of(t), segments.end_of(t)};
        const bool own = document.begin >= held.begin && document.end <= held.end,
                   within = t - held.begin >= plan.within.begin && t - held.begin < plan.within.end;
        EXPECT_EQ(own, within);
        EXPECT_EQ(std::ranges::count(plan.spanning, document, &SpanningDocument::tokens), own ? 0 : 1);
      }
      for (const SpanningDocument& document : plan.spanning) {
        EXPECT_EQ(document.ranks.at(static_cast<std::size_t>(document.position)), rank);
        EXPECT_GE(document.ranks.size(), 2);
        for (const int other : document.ranks)
          EXPECT_GT(layout.chunk(other).size(), 0) << "an empty rank takes no part";
      }
    }
}

TEST(SpanPlan, EveryTokenOfADocumentArrivesOnceWhereItsEqualShardIs) {
  for (const auto& [layout, segments] : random_packs(contiguous_layout))
    for (int rank = 0; rank < layout.ranks(); ++rank)
      for (const SpanningDocument& document : plan_spans(layout, segments, rank).spanning) {
        std::vector<std::int64_t> expected, arrived(static_cast<std::size_t>(document.shard()), -1);
        for (std::int64_t row = 0; row < document.shard(); ++row) {
          const std::int64_t token = document.tokens.begin + document.position * document.shard() + row;
          expected.push_back(token < document.tokens.end ? token : -1);
        }
        for (const RowMove& move : document.receives) {
          EXPECT_EQ(move.receiver, rank);
          EXPECT_GT(move.rows.count, 0);
          for (std::int64_t i = 0; i < move.rows.count; ++i) {
            std::int64_t& row = arrived.at(static_cast<std::size_t>(move.rows.to + i));
            EXPECT_EQ(row, -1) << "written twice";
            row = layout.chunk(move.sender).begin + move.rows.from + i;
          }
        }
        EXPECT_EQ(arrived, expected);
      }
}

TEST(SpanPlan, WhatIsSentIsWhatIsReceivedAndTwoRanksShareAtMostOneDocument) {
  for (const auto& [layout, segments] : random_packs(contiguous_layout)) {
    std::map<std::pair<int, int>, std::vector<RowMove>> sent, received;
    for (int rank = 0; rank < layout.ranks(); ++rank)
      for (const SpanningDocument& document : plan_spans(layout, segments, rank).spanning) {
        for (const RowMove& move : document.sends)
          if (move.receiver != rank) sent[{rank, move.receiver}].push_back(move);
        for (const RowMove& move : document.receives)
          if (move.sender != rank) received[{move.sender, rank}].push_back(move);
      }
    EXPECT_EQ(sent, received);
    for (const auto& [ranks, moves] : sent) EXPECT_EQ(moves.size(), 1);
  }
}

TEST(SpanPlan, NothingMovesWhereShardsAreEqualAlready) {
  for (int ranks = 2; ranks <= 8; ++ranks)
    for (int rank = 0; rank < ranks; ++rank) {
      const SpanPlan plan =
          plan_spans(ShardLayout(12 * ranks, ranks, Layout::contiguous), Segments::one_document(12 * ranks), rank);
      ASSERT_EQ(plan.spanning.size(), 1);
      EXPECT_EQ(plan.spanning[0].rows_sent(), 0);
      EXPECT_EQ(plan.spanning[0].rows_sent_back(), 0);
    }
}

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

TEST_P(EqualShards, HoldTheDocumentsRowsAndZerosBehindThem) {
  for_every_pack([](Communicator& world, const Stream& stream, const Sharding& sharding) {
    const SpanPlan& plan = sharding.spans();
    const Tensor whole = random_tensor(stream, DType::f64, {sharding.layout().tokens(), channels}, 5);
    const std::vector<Tensor> shards = random_shards(stream, plan, 6);
    onto_equal_shards(plan, local_rows(stream, sharding, whole), std::vector<TensorView>(shards.begin(), shards.end()),
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

TEST_P(EqualShards, GiveBackTheRowsTheyTookAndLeaveOthersAlone) {
  for_every_pack([](Communicator& world, const Stream& stream, const Sharding& sharding) {
    const SpanPlan& plan = sharding.spans();
    // Columns of a wider matrix, as a slice of the channels is.
    const Tensor local = random_tensor(stream, DType::f64, {sharding.local_tokens(), channels}, 7),
                 blank = random_tensor(stream, DType::f64, {sharding.local_tokens(), channels}, 8);
    const Padded from(stream, local), to(stream, blank);
    const std::vector<Tensor> shards = random_shards(stream, plan, 9);
    const std::vector<TensorView> views(shards.begin(), shards.end());
    onto_equal_shards(plan, from, views, world, stream);
    from_equal_shards(plan, views, to, world, stream);
    for (std::int64_t row = 0; row < sharding.local_tokens(); ++row) {
      const bool own = row >= plan.within.begin && row < plan.within.end;
      EXPECT_TRUE(same_bits(to.view().slice_rows(row, 1), (own ? blank : local).view().slice_rows(row, 1))) << row;
    }
    EXPECT_TRUE(to.padding_untouched());
  });
}

TEST_P(EqualShards, BackIsTheAdjointOfThere) {
  for_every_pack([](Communicator& world, const Stream& stream, const Sharding& sharding) {
    const SpanPlan& plan = sharding.spans();
    const auto seed = static_cast<std::uint64_t>(10 * world.rank());
    const Tensor x = random_tensor(stream, DType::f64, {sharding.local_tokens(), channels}, seed),
                 back = Tensor::zeros(stream, DType::f64, x.view().shape);
    const std::vector<Tensor> there = random_shards(stream, plan, 0), g = random_shards(stream, plan, seed + 100);
    onto_equal_shards(plan, x, std::vector<TensorView>(there.begin(), there.end()), world, stream);
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

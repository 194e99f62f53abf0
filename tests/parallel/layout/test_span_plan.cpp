#include "parallel/layout/span_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "parallel/strategy.hpp"
#include "tests/support/shards.hpp"

namespace causeway::test {
namespace {

TEST(SpanPlan, EveryRowIsUnsharedOrInOneSpanningDocument) {
  for (const auto& [layout, segments] : random_packs(contiguous_layout))
    for (int rank = 0; rank < layout.ranks(); ++rank) {
      const Range held = layout.chunk(rank);
      const SpanPlan plan = plan_spans(layout, segments, rank);
      EXPECT_LE(plan.spanning.size(), 2);
      for (std::int64_t t = held.begin; t < held.end; ++t) {
        const Range document{segments.start_of(t), segments.end_of(t)};
        const bool own = document.begin >= held.begin && document.end <= held.end,
                   within = t - held.begin >= plan.unshared_rows.begin && t - held.begin < plan.unshared_rows.end;
        EXPECT_EQ(own, within);
        EXPECT_EQ(std::ranges::count(plan.spanning, document, &SpanningDocument::tokens), own ? 0 : 1);
      }
      for (const SpanningDocument& document : plan.spanning) {
        EXPECT_EQ(document.ranks.at(static_cast<std::size_t>(document.position)), rank);
        EXPECT_GE(document.ranks.size(), 2);
        for (const int other : document.ranks)
          EXPECT_GT(layout.chunk(other).size(), 0) << "a rank without tokens is not in the list";
      }
    }
}

TEST(SpanPlan, EveryTokenOfADocumentIsReceivedOnceByTheRankOfItsEqualShard) {
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

TEST(SpanPlan, SendsMatchReceivesAndTwoRanksShareAtMostOneDocument) {
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

TEST(SpanPlan, NoRowsAreSentIfShardsAreEqualAlready) {
  for (int ranks = 2; ranks <= 8; ++ranks)
    for (int rank = 0; rank < ranks; ++rank) {
      const SpanPlan plan =
          plan_spans(ShardLayout(12 * ranks, ranks, Layout::contiguous), Segments::one_document(12 * ranks), rank);
      ASSERT_EQ(plan.spanning.size(), 1);
      EXPECT_EQ(plan.spanning[0].rows_sent(), 0);
      EXPECT_EQ(plan.spanning[0].rows_sent_back(), 0);
    }
}

}  // namespace
}  // namespace causeway::test

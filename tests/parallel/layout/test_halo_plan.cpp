#include "parallel/layout/halo_plan.hpp"

#include <gtest/gtest.h>

#include <map>

#include "parallel/strategy.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"

namespace causeway::test {
namespace {

/// The token in each of a rank's local rows.
std::vector<std::int64_t> local_tokens(const ShardLayout& layout, int rank) {
  std::vector<std::int64_t> tokens;
  for (const int c : layout.chunks_of(rank))
    for (std::int64_t t = layout.chunk(c).begin; t < layout.chunk(c).end; ++t) tokens.push_back(t);
  return tokens;
}

/// For each rank the tokens that its halo rows must hold; -1: none.
std::vector<std::vector<std::int64_t>> expected_halos(const RandomPack& pack, std::int64_t reach) {
  std::vector<std::vector<std::int64_t>> expected(static_cast<std::size_t>(pack.layout.ranks()));
  for (int rank = 0; rank < pack.layout.ranks(); ++rank)
    for (const int c : pack.layout.chunks_of(rank)) {
      const Range chunk = pack.layout.chunk(c);
      for (std::int64_t t = chunk.begin - reach; t < chunk.begin; ++t) {
        const bool same_document =
            chunk.size() > 0 && t >= 0 && pack.segments.start_of(t) == pack.segments.start_of(chunk.begin);
        expected[static_cast<std::size_t>(rank)].push_back(same_document ? t : -1);
      }
    }
  return expected;
}

TEST(HaloPlan, EveryNeededRowArrivesExactlyOnceAndNoOther) {
  for (const RandomPack& pack : random_packs(every_layout))
    for (const std::int64_t reach : {0, 1, 3, 12}) {
      const auto expected = expected_halos(pack, reach);
      for (int rank = 0; rank < pack.layout.ranks(); ++rank) {
        const HaloPlan plan = plan_halo(pack.layout, pack.segments, reach, rank);
        std::vector<std::int64_t> halo(expected[static_cast<std::size_t>(rank)].size(), -1);
        for (const RowMove& move : plan.receives) {
          const auto held = local_tokens(pack.layout, move.sender);
          EXPECT_EQ(move.receiver, rank);
          EXPECT_GT(move.rows.count, 0);
          for (std::int64_t i = 0; i < move.rows.count; ++i) {
            std::int64_t& row = halo.at(static_cast<std::size_t>(move.rows.to + i));
            EXPECT_EQ(row, -1) << "written twice";
            row = held.at(static_cast<std::size_t>(move.rows.from + i));
          }
        }
        EXPECT_EQ(halo, expected[static_cast<std::size_t>(rank)])
            << pack.layout.tokens() << " tokens on " << pack.layout.ranks() << " ranks, reach " << reach;
      }
    }
}

TEST(HaloPlan, SendsMatchReceivesInTheSameOrder) {
  for (const RandomPack& pack : random_packs(every_layout)) {
    std::map<std::pair<int, int>, std::vector<RowMove>> sent, received;
    for (int rank = 0; rank < pack.layout.ranks(); ++rank) {
      const HaloPlan plan = plan_halo(pack.layout, pack.segments, 5, rank);
      for (const RowMove& move : plan.sends) {
        EXPECT_EQ(move.sender, rank);
        sent[{move.sender, move.receiver}].push_back(move);
      }
      for (const RowMove& move : plan.receives) received[{move.sender, move.receiver}].push_back(move);
    }
    EXPECT_EQ(sent, received);
  }
}

TEST(HaloPlan, ARankSendsAtMostTheReachPerChunkIfShardsAreAtLeastAsLong) {
  for (const Layout kind : {Layout::contiguous, Layout::zigzag})
    for (const int ranks : rank_counts) {
      const ShardLayout layout(ranks * 20 + 3, ranks, kind);
      for (int rank = 0; rank < ranks; ++rank) {
        std::int64_t rows = 0;
        for (const RowMove& move : plan_halo(layout, Segments::one_document(layout.tokens()), 9, rank).sends)
          rows += move.rows.count;
        EXPECT_LE(rows, 9 * layout.chunk_count() / ranks);
      }
    }
}

}  // namespace
}  // namespace causeway::test

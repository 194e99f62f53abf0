#include "parallel/layout/exchange_plan.hpp"

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

/// By rank, the tokens that its halo rows should hold; -1: nothing.
std::vector<std::vector<std::int64_t>> wanted_halos(const RandomPack& pack, std::int64_t reach) {
  std::vector<std::vector<std::int64_t>> wanted(static_cast<std::size_t>(pack.layout.ranks()));
  for (int rank = 0; rank < pack.layout.ranks(); ++rank)
    for (const int c : pack.layout.chunks_of(rank)) {
      const Range chunk = pack.layout.chunk(c);
      for (std::int64_t t = chunk.begin - reach; t < chunk.begin; ++t) {
        const bool same_document =
            chunk.size() > 0 && t >= 0 && pack.segments.start_of(t) == pack.segments.start_of(chunk.begin);
        wanted[static_cast<std::size_t>(rank)].push_back(same_document ? t : -1);
      }
    }
  return wanted;
}

TEST(HaloPlan, EveryNeededRowArrivesExactlyOnceAndNoOther) {
  for (const RandomPack& pack : random_packs(every_layout))
    for (const std::int64_t reach : {0, 1, 3, 12}) {
      const auto wanted = wanted_halos(pack, reach);
      for (int rank = 0; rank < pack.layout.ranks(); ++rank) {
        const HaloPlan plan = plan_halo(pack.layout, pack.segments, reach, rank);
        std::vector<std::int64_t> halo(wanted[static_cast<std::size_t>(rank)].size(), -1);
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
        EXPECT_EQ(halo, wanted[static_cast<std::size_t>(rank)])
            << pack.layout.tokens() << " tokens on " << pack.layout.ranks() << " ranks, reach " << reach;
      }
    }
}

TEST(HaloPlan, WhatIsSentIsWhatIsReceivedInTheSameOrder) {
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

TEST(HaloPlan, ARankSendsAtMostTheReachPerChunkWhereShardsAreAsLong) {
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

TEST(CarryPlan, SaysWhereDocumentsCrossTheEdges) {
  for (const auto& [layout, segments] : random_packs(every_layout)) {
    const CarryPlan plan = plan_carry(layout, segments);
    ASSERT_EQ(std::ssize(plan.chunks), layout.chunk_count());
    for (int c = 0; c < layout.chunk_count(); ++c) {
      const auto& edge = plan.chunks[static_cast<std::size_t>(c)];
      const Range chunk = layout.chunk(c);
      bool from_left = false, to_right = false, whole = false;
      for (std::int64_t s = 0; s < segments.count(); ++s) {
        const std::int64_t begin = segments.cu_seqlens()[static_cast<std::size_t>(s)],
                           end = segments.cu_seqlens()[static_cast<std::size_t>(s) + 1];
        from_left |= begin < chunk.begin && chunk.begin < end;
        to_right |= begin < chunk.end && chunk.end < end;
        whole |= begin < chunk.begin && chunk.end < end;
      }
      EXPECT_EQ(edge.from_left, from_left);
      EXPECT_EQ(edge.to_right, to_right);
      EXPECT_EQ(edge.whole, whole) << "chunk " << c << " [" << chunk.begin << ", " << chunk.end << ")";
      if (c > 0) {
        EXPECT_EQ(edge.from_left, plan.chunks[static_cast<std::size_t>(c) - 1].to_right);
      }
    }
  }
}

}  // namespace
}  // namespace causeway::test

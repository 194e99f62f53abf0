#include "parallel/strategies/attention/query_key_blocks.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"

namespace causeway::attention {
namespace {

using test::awkward_packs;
using test::NamedPack;

/// Calls visit(query, key) for all visible pairs in the blocks of this rank's queries.
template <class Visit>
void each_visible_pair(const Sharding& sharding, const Visit& visit) {
  for (int owner = 0; owner < sharding.layout().ranks(); ++owner)
    for (const QueryKeyBlock& pair : query_key_blocks(sharding, owner))
      for (std::int64_t t = pair.queries.tokens.begin; t < pair.queries.tokens.end; ++t)
        for (std::int64_t key = std::max(pair.keys.begin, sharding.segments().start_of(t));
             key < std::min(pair.keys.end, t + 1); ++key)
          visit(t, key);
}

TEST(AttentionPairs, EveryQueryIsPairedOnceWithEveryKeyThatItSees) {
  for (const int ranks : test::rank_counts)
    for (const Layout layout : {Layout::contiguous, Layout::zigzag})
      for (const NamedPack& pack : awkward_packs(ranks, layout)) {
        SCOPED_TRACE(fmt::format("{} ranks, {}, {}", ranks, name_of(layout), pack.name));
        const std::int64_t T = pack.segments.tokens();
        std::vector<int> times(static_cast<std::size_t>(T * T)), expected(times);
        std::int64_t pairs = 0;
        for (std::int64_t t = 0; t < T; ++t)
          for (std::int64_t key = pack.segments.start_of(t); key <= t; ++key, ++pairs)
            expected[static_cast<std::size_t>(t * T + key)] = 1;
        for (int rank = 0; rank < ranks; ++rank)
          each_visible_pair(Sharding(ShardLayout(T, ranks, layout), pack.segments, rank),
                            [&](std::int64_t t, std::int64_t key) { ++times[static_cast<std::size_t>(t * T + key)]; });
        EXPECT_TRUE(times == expected);
        EXPECT_EQ(visible_pairs(pack.segments, {0, T}), static_cast<double>(pairs));
      }
}

TEST(AttentionPairs, TheFirstBlockOfAChunkHasItsOwnKeys) {
  for (const NamedPack& pack : awkward_packs(3, Layout::zigzag))
    for (int rank = 0; rank < 3; ++rank) {
      const Sharding sharding(ShardLayout(pack.segments.tokens(), 3, Layout::zigzag), pack.segments, rank);
      std::vector<int> started;
      for (const QueryKeyBlock& pair : query_key_blocks(sharding, rank)) {
        const bool known = std::ranges::find(started, pair.queries.index) != started.end();
        EXPECT_EQ(pair.own_keys(), !known) << pack.name;
        if (!known) started.push_back(pair.queries.index);
      }
      for (int owner = 0; owner < 3; ++owner)
        for (const QueryKeyBlock& pair : query_key_blocks(sharding, owner))
          EXPECT_TRUE(owner == rank || !pair.own_keys());
    }
}

TEST(AttentionPairs, RanksThatShareNoDocumentHaveNoBlock) {
  const ShardLayout layout(30, 3, Layout::contiguous);
  const Sharding sharding(layout, Segments({0, 10, 20, 30}), 2);
  EXPECT_TRUE(query_key_blocks(sharding, 0).empty());
  EXPECT_TRUE(query_key_blocks(sharding, 1).empty());
  EXPECT_EQ(query_key_blocks(sharding, 2).size(), 1u);
}

TEST(AttentionPairs, QueriesOfLaterDocumentsAreLeftOut) {
  const Sharding sharding(ShardLayout(30, 3, Layout::contiguous), Segments({0, 13, 30}), 1);
  const std::vector<QueryKeyBlock> pairs = query_key_blocks(sharding, 0);
  ASSERT_EQ(pairs.size(), 1u);
  EXPECT_EQ(pairs.front().queries.tokens, (Range{10, 13}));
  EXPECT_EQ(pairs.front().keys, (Range{0, 10}));
}

TEST(AttentionPairs, ZigzagIsBalancedAndContiguousIsNot) {
  for (const int ranks : {2, 3, 4, 7, 8}) {
    const std::int64_t T = 1000;
    const Segments one = Segments::one_document(T);
    for (const Layout layout : {Layout::contiguous, Layout::zigzag}) {
      std::int64_t most = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        std::int64_t work = 0;
        each_visible_pair(Sharding(ShardLayout(T, ranks, layout), one, rank),
                          [&](std::int64_t, std::int64_t) { ++work; });
        most = std::max(most, work);
      }
      const double share = static_cast<double>(most) * ranks / static_cast<double>(T * (T + 1) / 2);
      EXPECT_NEAR(share, layout == Layout::zigzag ? 1 : 2 - 1.0 / ranks, 0.02) << ranks << " ranks";
      EXPECT_EQ(most_visible_pairs(Sharding(ShardLayout(T, ranks, layout), one, 0)), static_cast<double>(most));
    }
  }
}

}  // namespace
}  // namespace causeway::attention

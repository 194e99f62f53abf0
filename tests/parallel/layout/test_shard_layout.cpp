#include "parallel/layout/shard_layout.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/core/error.hpp"
#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {

TEST(ShardLayout, ChunksFollowEachOtherAndDifferByAtMostOneToken) {
  for (const Layout kind : {Layout::contiguous, Layout::zigzag})
    for (int ranks = 1; ranks <= 9; ++ranks)
      for (std::int64_t tokens = 0; tokens <= 60; ++tokens) {
        const ShardLayout layout(tokens, ranks, kind);
        std::int64_t next = 0, held = 0;
        for (int c = 0; c < layout.chunk_count(); ++c) {
          EXPECT_EQ(layout.chunk(c).begin, next);
          next = layout.chunk(c).end;
          EXPECT_EQ(next, (c + 1) * tokens / layout.chunk_count());
          EXPECT_LE(std::abs(layout.chunk(c).size() - layout.chunk(0).size()), 1);
        }
        EXPECT_EQ(next, tokens);
        for (int rank = 0; rank < ranks; ++rank) held += layout.local_tokens(rank);
        EXPECT_EQ(held, tokens);
      }
}

TEST(ShardLayout, FirstLocalRowsPutARanksChunksOneAfterTheOther) {
  for (const Layout kind : {Layout::contiguous, Layout::zigzag})
    for (const int ranks : rank_counts) {
      const ShardLayout layout(37, ranks, kind);
      for (int rank = 0; rank < ranks; ++rank) {
        std::int64_t offset = 0;
        for (const int c : layout.chunks_of(rank)) {
          EXPECT_EQ(layout.owner(c), rank);
          EXPECT_EQ(layout.first_local_row(c), offset);
          offset += layout.chunk(c).size();
        }
        EXPECT_EQ(offset, layout.local_tokens(rank));
      }
    }
}

TEST(ShardLayout, ZigzagGivesEachRankAnEarlyAndALateChunk) {
  EXPECT_EQ(ShardLayout(16, 4, Layout::zigzag).chunks_of(1), (std::vector{1, 6}));
  EXPECT_EQ(ShardLayout(16, 4, Layout::contiguous).chunks_of(1), (std::vector{1}));
}

TEST(ShardLayout, EdgesOfVeryLargePacksDoNotOverflow) {
  const std::int64_t tokens = std::numeric_limits<std::int64_t>::max();
  const ShardLayout layout(tokens, 1000, Layout::contiguous);
  EXPECT_EQ(layout.chunk(999).end, tokens);
  EXPECT_EQ(layout.chunk(500).begin, static_cast<std::int64_t>(static_cast<unsigned __int128>(tokens) * 500 / 1000));
}

TEST(ShardLayout, NamesAreParsedAndOthersRefused) {
  for (const Layout kind : {Layout::contiguous, Layout::zigzag}) EXPECT_EQ(parse_layout(name_of(kind)), kind);
  EXPECT_THROW(parse_layout("zigzagged"), Error);
}

}  // namespace
}  // namespace causeway::test

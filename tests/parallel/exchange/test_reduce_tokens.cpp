/// The sum over ranks of rows of the whole pack: in how many pieces it is computed changes no bit.

#include <gtest/gtest.h>

#include "parallel/exchange/reshard.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

constexpr std::int64_t channels = 3;

class ReduceTokens : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ReduceTokens, testing::ValuesIn(rank_counts));

TEST_P(ReduceTokens, HasTheBitsOfASumInRankOrderInAnyNumberOfPieces) {
  on_ranks(GetParam(), [&](Communicator& world) {
    const Stream stream;
    for (const Layout layout : {Layout::contiguous, Layout::zigzag})
      for (const NamedPack& pack : awkward_packs(world.size(), layout)) {
        SCOPED_TRACE(pack.name);
        const std::int64_t tokens = pack.segments.tokens();
        const Sharding sharding(ShardLayout(tokens, world.size(), layout), pack.segments, world.rank());
        const Tensor sum = Tensor::zeros(stream, DType::f32, {tokens, channels}),
                     local(stream, DType::f32, {sharding.local_tokens(), channels});
        for (int rank = 0; rank < world.size(); ++rank) {
          const Tensor part = random_tensor(stream, DType::f32, {tokens, channels}, static_cast<std::uint64_t>(rank));
          for (std::int64_t i = 0; i < tokens * channels; ++i)
            sum.view().row<float>(0)[i] += part.view().row<float>(0)[i];
        }
        const Tensor mine =
            random_tensor(stream, DType::f32, {tokens, channels}, static_cast<std::uint64_t>(world.rank()));
        const std::vector<double> expected = values_of(local_rows(stream, sharding, sum));
        for (const int pieces : {1, 3, reduce_pieces}) {
          reduce_tokens(sharding, std::vector<LocalAndWhole>{{local, mine}}, world, stream, pieces);
          EXPECT_EQ(values_of(local), expected) << pieces << " pieces";
        }
      }
  });
}

TEST(ReducePieces, LongMessagesHaveAtLeast32KiB) {
  constexpr std::int64_t row = 1 << 10;
  const auto pieces = [](std::int64_t tokens_of_a_rank) {
    return pieces_of_long_messages(ShardLayout(4 * tokens_of_a_rank, 4, Layout::contiguous), row);
  };
  EXPECT_EQ(pieces(1), 1);
  EXPECT_EQ(pieces(63), 1);
  EXPECT_EQ(pieces(64), 2);
  EXPECT_EQ(pieces(255), 7);
  EXPECT_EQ(pieces(100'000), reduce_pieces);
}

}  // namespace
}  // namespace causeway::test

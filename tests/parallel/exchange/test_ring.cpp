#include "parallel/exchange/ring.hpp"

#include <gtest/gtest.h>

#include "kernels/activation.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

/// Blocks of different sizes; the second rank's is empty.
std::vector<Shape> blocks_of(int ranks) {
  std::vector<Shape> shapes;
  for (int rank = 0; rank < ranks; ++rank) shapes.push_back({rank == 1 ? 0 : rank + 2, 3});
  return shapes;
}

Tensor block_of(const Stream& stream, const std::vector<Shape>& shapes, int rank, DType dtype = DType::f32) {
  const auto index = static_cast<std::size_t>(rank);
  return random_tensor(stream, dtype, shapes[index], index);
}

class EveryRing : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(All, EveryRing, testing::ValuesIn(rank_counts));

TEST_P(EveryRing, VisitsEveryBlockOnceBeginningWithItsOwnAndGoingLeft) {
  on_ranks(GetParam(), [](Communicator& world) {
    const Stream stream;
    const std::vector<Shape> shapes = blocks_of(world.size());
    Tensor own = block_of(stream, shapes, world.rank());
    std::vector<int> owners, expected;
    for (int hop = 0; hop < world.size(); ++hop) expected.push_back((world.rank() - hop + world.size()) % world.size());
    ring_exchange({shapes, world, stream}, std::move(own), [&](int owner, TensorView block) {
      owners.push_back(owner);
      EXPECT_TRUE(same_bits(block, block_of(stream, shapes, owner)));
    });
    EXPECT_EQ(owners, expected);
  });
}

TEST_P(EveryRing, SumsTheGradientsOfABlockOnItsOwner) {
  on_ranks(GetParam(), [](Communicator& world) {
    const Stream stream;
    const std::vector<Shape> shapes = blocks_of(world.size());
    const auto share = [&](int from, int of) {
      return random_tensor(stream, DType::f32, shapes[static_cast<std::size_t>(of)],
                           static_cast<std::uint64_t>(100 + from * world.size() + of));
    };
    const Tensor d_own = Tensor::zeros(stream, DType::f32, shapes[static_cast<std::size_t>(world.rank())]);
    ring_exchange_adjoint(
        {shapes, world, stream}, block_of(stream, shapes, world.rank()),
        [&](int owner, TensorView block, TensorView d_block) {
          EXPECT_TRUE(same_bits(block, block_of(stream, shapes, owner)));
          EXPECT_EQ(d_block.present(), owner != world.rank());
          if (!d_block.present()) d_block = d_own;
          const std::vector<double> zeros(static_cast<std::size_t>(d_block.size()));
          EXPECT_EQ(test::values_of(d_block), zeros);
          assign(d_block, test::values_of(share(world.rank(), owner)));
        },
        [&](TensorView part) { scale(stream, {.x = part, .accumulate = true, .y = d_own}); });
    std::vector<double> expected(static_cast<std::size_t>(d_own.view().size()));
    for (int rank = 0; rank < world.size(); ++rank) {
      const std::vector<double> part = test::values_of(share(rank, world.rank()));
      for (std::size_t i = 0; i < part.size(); ++i) expected[i] += part[i];
    }
    EXPECT_LE(relative_error(test::values_of(d_own), expected), 1e-6);
  });
}

TEST_P(EveryRing, RoundsAGradientOnceWhateverTheNumberOfHops) {
  on_ranks(GetParam(), [](Communicator& world) {
    const Stream stream;
    const std::vector<Shape> shapes(static_cast<std::size_t>(world.size()), Shape{1, 1});
    const Tensor d_own = Tensor::zeros(stream, DType::f32, {1, 1});
    // 1 + 2^-8 is not a bf16 and rounds to 1; the owner's own part is not rounded.
    constexpr float share = 1 + 0x1p-8F;
    ring_exchange_adjoint(
        {shapes, world, stream}, block_of(stream, shapes, world.rank(), DType::bf16),
        [&](int, TensorView, TensorView d_block) {
          *(d_block.present() ? d_block : d_own.view()).row<float>(0) += share;
        },
        [&](TensorView part) { scale(stream, {.x = part, .accumulate = true, .y = d_own}); });
    EXPECT_EQ(*d_own.view().row<float>(0), share + static_cast<float>(world.size() - 1));
  });
}

}  // namespace
}  // namespace causeway::test

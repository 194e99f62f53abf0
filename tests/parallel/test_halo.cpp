#include "parallel/halo.hpp"

#include <gtest/gtest.h>

#include "parallel/sharding.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

constexpr std::int64_t channels = 3;

class Halo : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Halo, testing::ValuesIn(rank_counts));

/// Runs body(sharding, reach) for every awkward pack, in both layouts.
template <class Body>
void for_every_pack(Communicator& world, Body body) {
  for (const Layout layout : {Layout::contiguous, Layout::zigzag})
    for (const NamedPack& pack : awkward_packs(world.size(), layout))
      for (const std::int64_t reach : {1, 3, 30}) {
        const Sharding sharding(ShardLayout(pack.segments.tokens(), world.size(), layout), pack.segments, world.rank());
        SCOPED_TRACE(fmt::format("{}, {}, reach {}", name_of(layout), pack.name, reach));
        body(sharding, reach);
      }
}

TEST_P(Halo, HoldsTheRowsBeforeEachChunkAndZerosWhereTheDocumentStartsLater) {
  on_ranks(GetParam(), [](Communicator& world) {
    for_every_pack(world, [&](const Sharding& sharding, std::int64_t reach) {
      const Stream stream;
      const Tensor whole = random_tensor(stream, DType::f32, {sharding.layout().tokens(), channels}, 5);
      const Tensor x = local_rows(stream, sharding, whole);
      const Tensor halo = random_tensor(stream, DType::f32, {std::ssize(sharding.chunks()) * reach, channels}, 6);
      start_halo(sharding.halo(reach), {.a = x, .b = {}}, halo, world, stream).wait();
      std::vector<double> expected;
      for (const Chunk& chunk : sharding.chunks())
        for (std::int64_t t = chunk.tokens.begin - reach; t < chunk.tokens.begin; ++t) {
          const bool held = chunk.tokens.size() > 0 && t >= sharding.segments().start_of(chunk.tokens.begin);
          for (std::int64_t d = 0; d < channels; ++d)
            expected.push_back(held ? static_cast<double>(whole.view().row<float>(t)[d]) : 0);
        }
      EXPECT_EQ(values_of(halo), expected);
    });
  });
}

TEST_P(Halo, BackwardIsTheAdjointOfForward) {
  on_ranks(GetParam(), [](Communicator& world) {
    for_every_pack(world, [&](const Sharding& sharding, std::int64_t reach) {
      const Stream stream;
      const auto seed = static_cast<std::uint64_t>(world.rank());
      const Tensor x = random_tensor(stream, DType::f64, {sharding.local_tokens(), channels}, seed);
      const Tensor g = random_tensor(stream, DType::f64, {std::ssize(sharding.chunks()) * reach, channels}, 100 + seed);
      const Tensor halo(stream, DType::f64, g.view().shape), x_grad = Tensor::zeros(stream, DType::f64, x.view().shape);
      start_halo(sharding.halo(reach), {.a = x, .b = {}}, halo, world, stream).wait();
      start_halo_adjoint(sharding.halo(reach), g, {}, {.a = x_grad, .b = {}}, world, stream).wait();
      const double forward = world.sum(dot(halo, g)), backward = world.sum(dot(x, x_grad));
      const double scale = std::sqrt(world.sum(dot(halo, halo)) * world.sum(dot(g, g))) + 1e-300;
      EXPECT_LE(std::abs(forward - backward), 1e-13 * scale);
    });
  });
}

TEST_P(Halo, BackwardAddsToWhatIsThere) {
  on_ranks(GetParam(), [](Communicator& world) {
    const Stream stream;
    const Sharding sharding(ShardLayout(8 * world.size(), world.size(), Layout::contiguous),
                            Segments::one_document(8 * world.size()), world.rank());
    const std::vector<double> ones(8 * channels, 1.0);
    const Tensor g = tensor_of(stream, DType::f64, {2, channels}, std::span(ones).first(2 * channels));
    const Tensor x_grad = tensor_of(stream, DType::f64, {8, channels}, ones);
    start_halo_adjoint(sharding.halo(2), g, {}, {.a = x_grad, .b = {}}, world, stream).wait();
    std::vector<double> expected = ones;
    if (world.rank() + 1 < world.size()) std::fill(expected.end() - 2 * channels, expected.end(), 2.0);
    EXPECT_EQ(values_of(x_grad), expected);
  });
}

}  // namespace
}  // namespace causeway::test

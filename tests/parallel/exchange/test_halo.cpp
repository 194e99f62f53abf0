#include "parallel/exchange/halo.hpp"

#include <gtest/gtest.h>

#include "parallel/layout/sharding.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

constexpr std::int64_t channels = 3;

class Halo : public testing::TestWithParam<std::tuple<int, Device>> {
 protected:
  void on_all(const std::function<void(Communicator& world, const Stream& stream)>& body) {
    on_ranks(std::get<0>(GetParam()), std::get<1>(GetParam()), body);
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, Halo, testing::Combine(testing::ValuesIn(rank_counts), testing::ValuesIn(devices())),
                         [](const auto& instance) {
                           return std::to_string(std::get<0>(instance.param)) + suffix_of(std::get<1>(instance.param));
                         });

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
  on_all([](Communicator& world, const Stream& stream) {
    for_every_pack(world, [&](const Sharding& sharding, std::int64_t reach) {
      const Stream host;
      const Tensor whole = random_tensor(host, DType::f32, {sharding.layout().tokens(), channels}, 5);
      const Tensor x = moved(local_rows(host, sharding, whole), host, stream);
      const Tensor halo =
          moved(random_tensor(host, DType::f32, {std::ssize(sharding.chunks()) * reach, channels}, 6), host, stream);
      start_halo(sharding.halo_plan(reach), {.a = x, .b = {}}, halo, world, stream).wait();
      std::vector<double> expected;
      for (const Chunk& chunk : sharding.chunks())
        for (std::int64_t t = chunk.tokens.begin - reach; t < chunk.tokens.begin; ++t) {
          const bool held = chunk.tokens.size() > 0 && t >= sharding.segments().start_of(chunk.tokens.begin);
          for (std::int64_t d = 0; d < channels; ++d)
            expected.push_back(held ? static_cast<double>(whole.view().row<float>(t)[d]) : 0);
        }
      EXPECT_EQ(values_of(moved(halo, stream, host)), expected);
    });
  });
}

TEST_P(Halo, BackwardIsTheAdjointOfForward) {
  on_all([](Communicator& world, const Stream& stream) {
    for_every_pack(world, [&](const Sharding& sharding, std::int64_t reach) {
      const Stream host;
      const auto seed = static_cast<std::uint64_t>(world.rank());
      const Tensor x = random_tensor(host, DType::f64, {sharding.local_tokens(), channels}, seed);
      const Tensor g = random_tensor(host, DType::f64, {std::ssize(sharding.chunks()) * reach, channels}, 100 + seed);
      const Tensor filled(stream, DType::f64, g.view().shape),
          added = Tensor::zeros(stream, DType::f64, x.view().shape);
      start_halo(sharding.halo_plan(reach), {.a = moved(x, host, stream), .b = {}}, filled, world, stream).wait();
      start_halo_adjoint(sharding.halo_plan(reach), moved(g, host, stream), {}, {.a = added, .b = {}}, world, stream)
          .wait();
      const Tensor halo = moved(filled, stream, host), x_grad = moved(added, stream, host);
      const double forward = world.sum(dot(halo, g)), backward = world.sum(dot(x, x_grad));
      const double scale = std::sqrt(world.sum(dot(halo, halo)) * world.sum(dot(g, g))) + 1e-300;
      EXPECT_LE(std::abs(forward - backward), 1e-13 * scale);
    });
  });
}

TEST_P(Halo, TensorsSideBySideTravelLikeOneMatrix) {
  on_all([](Communicator& world, const Stream& stream) {
    for_every_pack(world, [&](const Sharding& sharding, std::int64_t reach) {
      const Stream host;
      const std::int64_t rows = std::ssize(sharding.chunks()) * reach, D = channels;
      const auto random = [&](std::int64_t count, std::uint64_t seed) {
        return moved(random_tensor(host, DType::f32, {count, 3 * D}, seed), host, stream);
      };
      const auto three = [&](const Tensor& x) {
        const auto part = [&](std::int64_t i) { return x.view().slice_columns(i * D, D); };
        return FilterInput{.a = part(0), .b = {}, .beside = {part(1), part(2)}};
      };
      const HaloPlan& plan = sharding.halo_plan(reach);
      const Tensor x = random(sharding.local_tokens(), 7), g = random(rows, 8), one = random(rows, 9),
                   all = random(rows, 10), added = random(sharding.local_tokens(), 11),
                   added_to_all = random(sharding.local_tokens(), 11);
      start_halo(plan, {.a = x, .b = {}}, one, world, stream).wait();
      start_halo(plan, three(x), all, world, stream).wait();
      EXPECT_EQ(values_of(moved(all, stream, host)), values_of(moved(one, stream, host)));
      start_halo_adjoint(plan, g, {}, {.a = added, .b = {}}, world, stream).wait();
      start_halo_adjoint(plan, g, three(x), three(added_to_all), world, stream).wait();
      EXPECT_EQ(values_of(moved(added_to_all, stream, host)), values_of(moved(added, stream, host)));
    });
  });
}

TEST_P(Halo, BackwardAddsToTheGradient) {
  on_all([](Communicator& world, const Stream& stream) {
    const Stream host;
    const Sharding sharding(ShardLayout(8 * world.size(), world.size(), Layout::contiguous),
                            Segments::one_document(8 * world.size()), world.rank());
    const std::vector<double> ones(8 * channels, 1.0);
    const Tensor g = tensor_of(host, DType::f64, {2, channels}, std::span(ones).first(2 * channels));
    const Tensor x_grad = moved(tensor_of(host, DType::f64, {8, channels}, ones), host, stream);
    start_halo_adjoint(sharding.halo_plan(2), moved(g, host, stream), {}, {.a = x_grad, .b = {}}, world, stream).wait();
    std::vector<double> expected = ones;
    if (world.rank() + 1 < world.size()) std::fill(expected.end() - 2 * channels, expected.end(), 2.0);
    EXPECT_EQ(values_of(moved(x_grad, stream, host)), expected);
  });
}

}  // namespace
}  // namespace causeway::test

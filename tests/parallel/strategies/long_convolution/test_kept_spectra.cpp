#include "parallel/strategies/long_convolution/kept_spectra.hpp"

#include <gtest/gtest.h>

#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

TEST(KeptSpectra, AreKeptIfTheyTakeAtMostAnEighthOfTheFreeMemory) {
  using long_convolution::keeps_spectra;
  EXPECT_TRUE(keeps_spectra(KeepSpectra::automatic, 100, 800));
  EXPECT_FALSE(keeps_spectra(KeepSpectra::automatic, 101, 800));
  EXPECT_FALSE(keeps_spectra(KeepSpectra::automatic, 1, std::nullopt)) << "free memory is not known";
  EXPECT_TRUE(keeps_spectra(KeepSpectra::always, 801, 800));
  EXPECT_FALSE(keeps_spectra(KeepSpectra::never, 1, 800));
  EXPECT_FALSE(keeps_spectra(KeepSpectra::always, 0, 800)) << "there are no spectra";
}

TEST(KeptSpectra, TheOptionIsReadByName) {
  for (const KeepSpectra keep : {KeepSpectra::automatic, KeepSpectra::never, KeepSpectra::always})
    EXPECT_EQ(parse_keep_spectra(name_of(keep)), keep);
  EXPECT_THROW(parse_keep_spectra("sometimes"), Error);
}

struct Result {
  Tensor y, d_x, d_taps;
  std::int64_t saved_bytes = 0;  ///< between forward and backward
};

Result run(KeepSpectra keep, std::string_view strategy, Communicator& world, const Stream& stream,
           const Sharding& sharding) {
  constexpr std::int64_t channels = 12, groups = 6;
  const std::int64_t tokens = sharding.layout().tokens();
  const Stream host;
  const auto on_device = [&](const Tensor& x) { return moved(x, host, stream); };
  const auto rows = [&](std::uint64_t seed) {
    return on_device(local_rows(host, sharding, random_tensor(host, DType::f32, {tokens, channels}, seed)));
  };
  const Tensor x = rows(1), d_y = rows(2),
               taps = on_device(random_tensor(host, DType::f32, {groups, tokens}, 3, -0.1, 0.1));
  Result result{.y = Tensor(stream, DType::f32, x.view().shape),
                .d_x = Tensor(stream, DType::f32, x.view().shape),
                .d_taps = Tensor::zeros(stream, DType::f32, taps.view().shape)};
  StrategyContext context{sharding, world, stream};
  context.keep_spectra = keep;
  const auto& row = find_strategy(long_convolution_strategies(), "long_conv", strategy);
  Saved saved;
  const std::int64_t before = stream.memory().live_bytes();
  row.forward(context, {.in = {.v = x}, .taps = taps, .y = result.y}, &saved);
  result.saved_bytes = stream.memory().live_bytes() - before;
  row.backward(context,
               {.in = {.v = x},
                .taps = taps,
                .gradients = {.d_y = d_y, .d_q = {}, .d_k = {}, .d_v = result.d_x, .d_skip = {}},
                .d_taps = result.d_taps},
               saved);
  saved.ensure_empty();
  for (Tensor* tensor : {&result.y, &result.d_x, &result.d_taps}) *tensor = moved(*tensor, stream, host);
  return result;
}

TEST(KeptSpectra, OfEveryStrategyChangeNoBit) {
  for (const Device device : devices())
    for (const int ranks : {1, 2})
      on_ranks(ranks, device, [&](Communicator& world, const Stream& stream) {
        const Sharding sharding(ShardLayout(14000, ranks, Layout::contiguous), Segments({0, 6000, 6100, 14000}),
                                world.rank());
        for (const LongConvolutionStrategy& row : long_convolution_strategies()) {
          const Result never = run(KeepSpectra::never, row.name, world, stream, sharding),
                       always = run(KeepSpectra::always, row.name, world, stream, sharding),
                       automatic = run(KeepSpectra::automatic, row.name, world, stream, sharding);
          for (const Result* other : {&always, &automatic}) {
            EXPECT_TRUE(same_bits(other->y, never.y)) << row.name;
            EXPECT_TRUE(same_bits(other->d_x, never.d_x)) << row.name;
            EXPECT_TRUE(same_bits(other->d_taps, never.d_taps)) << row.name;
          }
          // In fft the last rank has no document of its own.
          if (device == Device::cpu || (row.name == "fft" && world.rank() + 1 == world.size() && ranks > 1))
            EXPECT_EQ(always.saved_bytes, never.saved_bytes) << row.name;
          else
            EXPECT_GT(always.saved_bytes, never.saved_bytes) << row.name;
        }
      });
}

}  // namespace
}  // namespace causeway::test

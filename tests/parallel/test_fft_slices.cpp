/// The strategy fft on shards so long that it processes the channels in slices. test_strategies.cpp tests it with one
/// slice.

#include <gtest/gtest.h>

#include "kernels/core/integer.hpp"
#include "parallel/strategy.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/shards.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

constexpr std::int64_t channels = 24, groups = 3, modes = 4;
constexpr int ranks = 3;

/// Runs body(world, stream, sharding) on a pack of three documents, which cross zero, one and two edges between ranks.
template <class Body>
void on_long_shards(Body body) {
  on_ranks(ranks, [&](Communicator& world) {
    const std::int64_t tokens = 28000;
    const Sharding sharding(ShardLayout(tokens, ranks, Layout::contiguous), Segments({0, 300, 9800, tokens}),
                            world.rank());
    body(world, Stream(), sharding);
  });
}

/// Compares this rank's rows with those of the whole pack.
void expect_rows(const Stream& stream, const Sharding& sharding, const char* name, TensorView got, TensorView whole) {
  EXPECT_LE(relative_error(values_of(got), values_of(local_rows(stream, sharding, whole))), 1e-11) << name;
}

TEST(FftInSlices, LongConvEqualsOneRankAndSendsAMessageASlice) {
  on_long_shards([](Communicator& world, const Stream& stream, const Sharding& sharding) {
    const std::int64_t tokens = sharding.layout().tokens();
    const Tensor x = random_tensor(stream, DType::f64, {tokens, channels}, 1),
                 d_y = random_tensor(stream, DType::f64, {tokens, channels}, 2),
                 taps = random_tensor(stream, DType::f64, {groups, tokens}, 3, -0.1, 0.1),
                 skip = random_tensor(stream, DType::f64, {channels}, 4);
    const auto zeros = [&](Shape shape) { return Tensor::zeros(stream, DType::f64, shape); };

    const Tensor y = zeros({tokens, channels}), d_x = zeros({tokens, channels}), d_taps = zeros({groups, tokens}),
                 d_skip = zeros({channels});
    const GatedConvInputs whole{.q = {}, .k = {}, .v = x, .skip = skip, .segments = sharding.whole_pack().segments()};
    fft_conv_forward(stream, {.in = whole, .taps = taps, .y = y});
    fft_conv_backward(stream, {.in = whole,
                               .taps = taps,
                               .gradients = {.d_y = d_y, .d_q = {}, .d_k = {}, .d_v = d_x, .d_skip = d_skip},
                               .d_taps = d_taps});

    const Tensor my_x = local_rows(stream, sharding, x), my_d_y = local_rows(stream, sharding, d_y),
                 my_y = zeros(my_x.view().shape), my_d_x = zeros(my_x.view().shape),
                 my_d_taps = zeros({groups, tokens}), my_d_skip = zeros({channels});
    const GatedConvInputs in{.q = {}, .k = {}, .v = my_x, .skip = skip, .segments = {}};
    const StrategyContext context{sharding, world, stream};
    const auto& fft = find_strategy(long_convolution_strategies(), "long_conv", "fft");
    Saved saved;
    const Traffic before = world.traffic();
    fft.forward(context, {.in = in, .taps = taps, .y = my_y}, &saved);
    const std::int64_t messages = world.traffic().messages_sent - before.messages_sent;
    fft.backward(context,
                 {.in = in,
                  .taps = taps,
                  .gradients = {.d_y = my_d_y, .d_q = {}, .d_k = {}, .d_v = my_d_x, .d_skip = my_d_skip},
                  .d_taps = my_d_taps},
                 saved);
    EXPECT_NO_THROW(saved.ensure_empty());
    EXPECT_GT(messages, 6) << "one slice needs at most 6";
    expect_rows(stream, sharding, "y", my_y, y);
    expect_rows(stream, sharding, "d_x", my_d_x, d_x);
    EXPECT_LE(relative_error(summed(world, values_of(my_d_taps)), values_of(d_taps)), 1e-11);
    EXPECT_LE(relative_error(summed(world, values_of(my_d_skip)), values_of(d_skip)), 1e-11);
  });
}

TEST(FftInSlices, HyenaLiEqualsOneRank) {
  on_long_shards([](Communicator& world, const Stream& stream, const Sharding& sharding) {
    const std::int64_t tokens = sharding.layout().tokens();
    const auto random = [&](Shape shape, std::uint64_t seed, double low = -1, double high = 1) {
      return random_tensor(stream, DType::f64, shape, seed, low, high);
    };
    const auto zeros = [&](Shape shape) { return Tensor::zeros(stream, DType::f64, shape); };
    const Tensor v = random({tokens, channels}, 1), d_y = random({tokens, channels}, 2),
                 residues = random({channels, modes}, 3), log_rates = random({channels, modes}, 4, -7, 0);

    const Tensor y = zeros({tokens, channels}), d_v = zeros({tokens, channels}), d_residues = zeros({channels, modes}),
                 d_log_rates = zeros({channels, modes}),
                 states = zeros({ceil_div(tokens, modal_conv_block), channels, modes});
    const GatedConvInputs whole{.q = {}, .k = {}, .v = v, .skip = {}, .segments = sharding.whole_pack().segments()};
    modal_conv_forward(
        stream, {.in = whole, .residues = residues, .log_rates = log_rates, .state_in = {}, .y = y, .states = states});
    modal_conv_backward(stream, {.in = whole,
                                 .residues = residues,
                                 .log_rates = log_rates,
                                 .states = states,
                                 .adjoint_in = {},
                                 .gradients = {.d_y = d_y, .d_q = {}, .d_k = {}, .d_v = d_v, .d_skip = {}},
                                 .d_residues = d_residues,
                                 .d_log_rates = d_log_rates});

    const Tensor my_v = local_rows(stream, sharding, v), my_d_y = local_rows(stream, sharding, d_y),
                 my_y = zeros(my_v.view().shape), my_d_v = zeros(my_v.view().shape),
                 my_d_residues = zeros({channels, modes}), my_d_log_rates = zeros({channels, modes});
    const GatedConvInputs in{.q = {}, .k = {}, .v = my_v, .skip = {}, .segments = {}};
    const StrategyContext context{sharding, world, stream};
    const auto& fft = find_strategy(modal_convolution_strategies(), "hyena_li", "fft");
    Saved saved;
    fft.forward(context,
                {.in = in, .residues = residues, .log_rates = log_rates, .state_in = {}, .y = my_y, .states = {}},
                &saved);
    fft.backward(context,
                 {.in = in,
                  .residues = residues,
                  .log_rates = log_rates,
                  .states = {},
                  .adjoint_in = {},
                  .gradients = {.d_y = my_d_y, .d_q = {}, .d_k = {}, .d_v = my_d_v, .d_skip = {}},
                  .d_residues = my_d_residues,
                  .d_log_rates = my_d_log_rates},
                 saved);
    EXPECT_NO_THROW(saved.ensure_empty());
    expect_rows(stream, sharding, "y", my_y, y);
    expect_rows(stream, sharding, "d_v", my_d_v, d_v);
    EXPECT_LE(relative_error(summed(world, values_of(my_d_residues)), values_of(d_residues)), 1e-11);
    EXPECT_LE(relative_error(summed(world, values_of(my_d_log_rates)), values_of(d_log_rates)), 1e-10);
  });
}

}  // namespace
}  // namespace causeway::test

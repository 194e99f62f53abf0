/// The cost functions of the strategies, compared with the formulas of parallel/strategies/README.md.
/// test_strategies.cpp tests that the strategies send these bytes.

#include <gtest/gtest.h>

#include "kernels/core/integer.hpp"
#include "parallel/choose.hpp"
#include "parallel/exchange/distributed_fft.hpp"
#include "parallel/layout/span_plan.hpp"

namespace causeway::test {
namespace {

TensorView shaped(Shape shape, DType dtype = DType::f32) { return without_data(dtype, shape); }

struct Size {
  std::int64_t T, D, N;
};
constexpr Size sizes[] = {{1 << 20, 4096, 8}, {65536, 256, 2}, {65538, 240, 3}, {9800, 210, 7}, {4096, 64, 1}};

/// Calls check(size, sharding of one document, bytes that all_to_all sends of one tensor: (L/N)·D·s·(N-1)/N).
template <class Check>
void for_every_size(Layout layout, Check check) {
  for (const Size& size : sizes) {
    SCOPED_TRACE(fmt::format("T={} D={} N={} {}", size.T, size.D, size.N, name_of(layout)));
    const Sharding sharding(ShardLayout(size.T, static_cast<int>(size.N), layout), Segments::one_document(size.T), 0);
    check(size, sharding, size.T / size.N * size.D * 4 * (size.N - 1) / size.N);
  }
}

template <class Strategy, class Args>
std::int64_t bytes(std::span<const Strategy> table, std::string_view name, const Sharding& sharding, const Args& args) {
  return find_strategy(table, "test", name).cost(sharding, args).forward.bytes_sent;
}

TEST(Costs, AHaloIsOneRowLessThanTheTapsForEachChunk) {
  for (const Layout layout : every_layout)
    for_every_size(layout, [&](const Size& size, const Sharding& sharding, std::int64_t) {
      const TensorView x = shaped({size.T / size.N, size.D});
      const std::int64_t chunks = layout == Layout::zigzag ? 2 : 1, between = size.N > 1 ? 1 : 0;
      for (const std::string_view name : {"halo", "halo_overlapped"}) {
        EXPECT_EQ(bytes(convolution_strategies(), name, sharding,
                        CausalConvForward{.x = x, .weight = shaped({size.D, 4}), .y = x}),
                  between * chunks * 3 * size.D * 4);
        EXPECT_EQ(bytes(gated_convolution_strategies(), name, sharding,
                        BlockedConvForward{.in = {.q = x, .k = x, .v = x}, .taps = shaped({1, 128}), .y = x}),
                  between * chunks * 127 * size.D * 4);
        // one halo of q, k and v for the featurizer and the taps
        EXPECT_EQ(
            bytes(hyena_block_strategies(), name, sharding,
                  HyenaBlockForward{
                      .in = {.q = x, .k = x, .v = x, .featurizer = shaped({3 * size.D, 3}), .taps = shaped({1, 128})},
                      .y = x}),
            between * chunks * 129 * 3 * size.D * 4);
      }
    });
}

TEST(Costs, AllToAllIsTwoTensorsForConvolutionsThreeForTheScan) {
  for (const Layout layout : every_layout)
    for_every_size(layout, [&](const Size& size, const Sharding& sharding, std::int64_t tensor) {
      const TensorView x = shaped({size.T / size.N, size.D}), modes = shaped({size.D, 16});
      const GatedConvInputs in{.q = x, .k = x, .v = x};
      for (const std::string_view name : {"all_to_all", "all_to_all_pipelined"}) {
        EXPECT_EQ(bytes(convolution_strategies(), name, sharding,
                        CausalConvForward{.x = x, .weight = shaped({size.D, 4}), .y = x}),
                  2 * tensor);
        EXPECT_EQ(bytes(gated_convolution_strategies(), name, sharding,
                        BlockedConvForward{.in = in, .taps = shaped({size.D, 7}), .y = x}),
                  2 * tensor);
        EXPECT_EQ(bytes(modal_convolution_strategies(), name, sharding,
                        ModalConvForward{.in = in, .residues = modes, .log_rates = modes, .y = x}),
                  2 * tensor);
        EXPECT_EQ(bytes(long_convolution_strategies(), name, sharding,
                        FftConvForward{.in = {.v = x}, .taps = shaped({size.D, size.T}), .y = x}),
                  2 * tensor);
        EXPECT_EQ(bytes(hyena_block_strategies(), name, sharding,
                        HyenaBlockForward{.in = {.q = x,
                                                 .k = x,
                                                 .v = x,
                                                 .featurizer = shaped({3 * size.D, 3}),
                                                 .residues = modes,
                                                 .log_rates = modes},
                                          .y = x}),
                  4 * tensor);
      }
      constexpr std::int64_t states = 16;
      const TensorView B = shaped({size.T / size.N, states});
      EXPECT_EQ(
          bytes(selective_scan_strategies(), "all_to_all", sharding,
                SelectiveScanForward{
                    .in = {.u = x, .delta = x, .A = shaped({size.D, states}), .B = B, .C = B, .D = shaped({size.D})},
                    .y = x}),
          3 * tensor + 2 * states * 4 * (size.T / size.N) * (size.N - 1));
    });
}

TEST(Costs, AFourierTransformSendsAShardToEachOtherBranchOfEachButterfly) {
  for_every_size(Layout::contiguous, [&](const Size& size, const Sharding& sharding, std::int64_t) {
    const std::int64_t branches[] = {0, 0, 1, 2, 2, 4, 3, 6, 3};  // Σ (p-1) over the prime factors of N
    const std::int64_t groups = size.D / 2;
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      const TensorView x = shaped({size.T / size.N, size.D}, dtype),
                       modes = shaped({size.D, 16}, accumulator_of(dtype));
      const std::int64_t transform = branches[size.N] * (dtype == DType::f64 ? 16 : 8) * (size.T / size.N);
      EXPECT_EQ(bytes(modal_convolution_strategies(), "fft", sharding,
                      ModalConvForward{.in = {.q = x, .k = x, .v = x}, .residues = modes, .log_rates = modes, .y = x}),
                2 * transform * size.D);
      EXPECT_EQ(bytes(long_convolution_strategies(), "fft", sharding,
                      FftConvForward{.in = {.v = x}, .taps = shaped({groups, size.T}, dtype), .y = x}),
                2 * transform * size.D + transform * groups);
    }
  });
}

TEST(Costs, AFourierTransformMovesTheRowsThatThePlansOfItsRanksMove) {
  for (const auto& [T, N] : {std::pair<std::int64_t, int>{1000, 7}, {4097, 12}, {13, 12}, {5, 9}, {1 << 16, 64}}) {
    const std::int64_t D = 24;
    const TensorView x = shaped({ceil_div(T, std::int64_t{N}), D}), modes = shaped({D / 2, 4});
    const ShardLayout layout(T, N, Layout::contiguous);
    std::int64_t most = 0;
    for (int rank = 0; rank < N; ++rank)
      for (const SpanningDocument& span : plan_spans(layout, Segments::one_document(T), rank).spanning)
        most = std::max(
            most, 2 * distributed_fft_bytes(static_cast<int>(std::ssize(span.ranks)), span.shard(), D, DType::f32) +
                      (span.rows_sent() + span.rows_sent_back()) * D * 4);
    EXPECT_EQ(bytes(modal_convolution_strategies(), "fft", Sharding(layout, Segments::one_document(T), 0),
                    ModalConvForward{.in = {.q = {}, .k = {}, .v = x}, .residues = modes, .log_rates = modes, .y = x}),
              most)
        << T << " tokens on " << N << " ranks";
  }
}

TEST(Costs, TheSizeOfAStateDoesNotDependOnTheContextLength) {
  for_every_size(Layout::contiguous, [&](const Size& size, const Sharding& sharding, std::int64_t) {
    const TensorView x = shaped({size.T / size.N, size.D}, DType::bf16), modes = shaped({size.D, 16});
    const std::int64_t sent =
        bytes(modal_convolution_strategies(), "state_carry", sharding,
              ModalConvForward{.in = {.q = x, .k = x, .v = x}, .residues = modes, .log_rates = modes, .y = x});
    const std::int64_t chain = 4 * 16 * size.D, gather = (size.N - 1) * chain;
    EXPECT_EQ(sent, size.N == 1 ? 0 : cheaper_schedule(sharding, chain, chain) == Schedule::chain ? chain : gather);
  });
}

TEST(Costs, ARelayComputesNoSummaryAndWaitsForItsShareOfTheScansOfTheRanksBefore) {
  constexpr std::int64_t tokens = 65536, channels = 256, states = 16;
  for (const int ranks : {2, 3}) {
    Sharding sharding(ShardLayout(tokens, ranks, Layout::contiguous), Segments::one_document(tokens), 0);
    sharding.set_one_way_layers(10);
    const TensorView x = shaped({tokens / ranks, channels}), B = shaped({tokens / ranks, states});
    const PassCosts costs = find_strategy(selective_scan_strategies(), "test", "state_carry")
                                .cost(sharding, SelectiveScanForward{.in = {.u = x,
                                                                            .delta = x,
                                                                            .A = shaped({channels, states}),
                                                                            .B = B,
                                                                            .C = B,
                                                                            .D = shaped({channels})},
                                                                     .y = x});
    const double scan = costs.repeated.kernels.front().elements, waits = (ranks - 1) / 10.0;
    for (const Cost& pass : {costs.forward, costs.backward}) {
      EXPECT_EQ(pass.bytes_sent, states * channels * 4);
      EXPECT_EQ(pass.rounds, 1);
      double elements = 0;
      for (const KernelWork& work : pass.kernels) {
        EXPECT_EQ(work.kernel.kind, KernelKind::selective_scan);
        elements += work.elements;
      }
      EXPECT_NEAR(elements, (1 + waits) * scan, 1e-6 * scan);
    }
    EXPECT_EQ(costs.repeated.kernels.size(), 1u) << "received.hpp";
  }
}

TEST(Costs, AttentionSendsKeysAndValuesToEveryOtherRankOrFourTensorsByHeads) {
  for (const Layout layout : every_layout)
    for_every_size(layout, [&](const Size& size, const Sharding& sharding, std::int64_t tensor) {
      const TensorView x = shaped({size.T / size.N, size.N, size.D / size.N});  // one head per rank
      const RotaryAttentionForward args{.q = x, .k = x, .v = x, .y = x};
      const auto table = attention_strategies();
      EXPECT_EQ(bytes(table, "ring", sharding, args), 2 * (size.N - 1) * (size.T / size.N) * size.D * 4);
      EXPECT_EQ(bytes(table, "all_gather", sharding, args), 2 * (size.N - 1) * (size.T / size.N) * size.D * 4);
      EXPECT_EQ(bytes(table, "all_to_all", sharding, args), 4 * tensor);
      // Relative to the mean of the ranks; in a contiguous layout the last rank has the most keys.
      const auto elements = [&](std::string_view name) {
        return find_strategy(table, "attention", name).cost(sharding, args).forward.kernels.front().elements;
      };
      const double share = layout == Layout::zigzag ? 1 : 2 - 1.0 / static_cast<double>(size.N);
      for (const std::string_view name : {"ring", "all_gather"})
        EXPECT_NEAR(elements(name) / elements("all_to_all"), share, 0.001);
    });
}

TEST(Costs, OneRankSendsNoBytesAndNoMessages) {
  const Sharding alone(ShardLayout(1000, 1, Layout::contiguous), Segments::one_document(1000), 0);
  const TensorView x = shaped({1000, 8});
  for (const auto& row : convolution_strategies()) {
    if (row.name == "all_to_all_pipelined") continue;  // computes whole vectors in every slice
    const PassCosts costs = row.cost(alone, {.x = x, .weight = shaped({8, 4}), .y = x});
    for (const Cost& cost : {costs.forward, costs.backward}) {
      EXPECT_EQ(cost.bytes_sent, 0) << row.name;
      EXPECT_EQ(cost.messages, 0) << row.name;
      ASSERT_EQ(cost.kernels.size(), 1u) << row.name;
      EXPECT_EQ(cost.kernels[0].elements, row.name.starts_with("all_to_all") ? 16000 : 8000) << row.name;
    }
  }
}

TEST(Costs, ASummaryIsOfTheDocumentThatCrossesAnEdge) {
  const TensorView x = shaped({500, 8});
  SelectiveScanForward args;
  args.in.u = args.in.delta = args.y = x;
  args.in.A = shaped({8, 16});
  const auto elements = [&](std::vector<std::int64_t> cu_seqlens) {
    const Sharding sharding(ShardLayout(1000, 2, Layout::contiguous), Segments(std::move(cu_seqlens)), 0);
    const PassCosts costs = find_strategy(selective_scan_strategies(), "scan", "state_carry").cost(sharding, args);
    const auto summary = [](const Cost& cost) { return cost.kernels.size() < 2 ? 0 : cost.kernels[1].elements / 8; };
    return std::pair(summary(costs.forward), summary(costs.backward));
  };
  EXPECT_EQ(elements({0, 1000}), std::pair(500., 500.));
  EXPECT_EQ(elements({0, 470, 900, 1000}), std::pair(30., 400.));
  EXPECT_EQ(elements({0, 500, 1000}), std::pair(0., 0.)) << "nothing crosses";
}

TEST(Costs, HiddenCommunicationDoesNotCountTwice) {
  Machine machine{.latency_s = 1, .bytes_per_s = 10, .copy_bytes_per_s = 100};
  const Cost exposed{
      .copied_bytes = 500, .bytes_sent = 30, .rounds = 2, .messages = 2};  // 5 s of work, 5 s of communication
  EXPECT_DOUBLE_EQ(seconds(exposed, machine), 10);
  Cost hidden = exposed;
  hidden.hidden = 1;
  EXPECT_DOUBLE_EQ(seconds(hidden, machine), 5);
  hidden.hidden = 0.5;
  EXPECT_DOUBLE_EQ(seconds(hidden, machine), 7.5);
  machine.overlap = 0.5;
  EXPECT_DOUBLE_EQ(seconds(hidden, machine), 8.25);  // 3 s send bytes: a quarter of them is hidden
  machine.latency_overlap = 0;
  EXPECT_DOUBLE_EQ(seconds(hidden, machine), 9.25);  // 2 s are latency: no part of them is hidden
}

TEST(Costs, MessagesBeyondTheFirstOfARoundTakeTheirOwnTime) {
  const Machine machine{.latency_s = 10, .message_s = 0.5, .bytes_per_s = 10, .latency_overlap = 0.5};
  Cost cost{.bytes_sent = 30, .rounds = 2, .messages = 8};
  EXPECT_DOUBLE_EQ(communicating_seconds(cost, machine), 2 * 10 + 6 * 0.5 + 3);
  cost.hidden = 1;
  EXPECT_DOUBLE_EQ(hideable_seconds(cost, machine), 0.5 * (2 * 10 + 6 * 0.5) + 3);
  cost.messages = 1;  // a chain's rank sends one message in all of its rounds
  EXPECT_DOUBLE_EQ(communicating_seconds(cost, machine), 2 * 10 + 3);
}

TEST(Costs, AKernelHasTheRateOfTheMostSimilarOne) {
  const TimedKernel scan{.kind = KernelKind::selective_scan, .width = 16}, gated{scan.kind, 16, 1, true},
      wide{scan.kind, 64};
  const Machine machine{.kernels = {{scan, 1, 2}, {gated, 3, 4}, {wide, 5, 6}}};
  EXPECT_EQ(rate_of(machine, scan).element_s, 2);
  EXPECT_EQ(rate_of(machine, gated).element_s, 4);
  EXPECT_EQ(rate_of(machine, {scan.kind, 24}).element_s, 2);
  EXPECT_EQ(rate_of(machine, {scan.kind, 40}).element_s, 6);
  EXPECT_EQ(rate_of(machine, {scan.kind, 64, 1, true}).element_s, 4);
  EXPECT_THROW(rate_of(machine, {scan.kind, 16, 1, false, true}), Error);
  EXPECT_DOUBLE_EQ(computing_seconds({.kernels = {{gated, 10, 2}}}, machine), 2 * 3 + 10 * 4);
}

}  // namespace
}  // namespace causeway::test

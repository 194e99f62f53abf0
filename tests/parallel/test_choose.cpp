#include "parallel/choose.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace causeway::test {
namespace {

TensorView shaped(Shape shape) { return without_data(DType::f32, shape); }

OperatorArguments convolution(std::int64_t channels, std::int64_t taps) {
  return BlockedConvForward{.in = {.q = {}, .k = {}, .v = shaped({1, channels}), .skip = {}, .segments = {}},
                            .halo = {},
                            .taps = shaped({channels, taps}),
                            .y = shaped({1, channels})};
}

OperatorArguments scan(std::int64_t channels, std::int64_t states) {
  SelectiveScanForward args;
  args.in.u = args.in.delta = args.y = shaped({1, channels});
  args.in.B = args.in.C = shaped({1, states});
  args.in.A = shaped({channels, states});
  return args;
}

/// A machine on which an element of any kernel takes the same time.
Machine uniform(double latency_s, double bytes_per_s, double elements_per_s) {
  Machine machine{.latency_s = latency_s,
                  .bytes_per_s = bytes_per_s,
                  .all_bytes_per_s = bytes_per_s,
                  .copy_bytes_per_s = 1e15,
                  .copy_call_s = 0};
  for (const KernelKind kind : {KernelKind::causal_conv, KernelKind::blocked_conv, KernelKind::selective_scan,
                                KernelKind::scan_summary, KernelKind::attention})
    for (const bool backward : {false, true})
      machine.kernels.push_back({{.kind = kind, .width = 16, .backward = backward}, 0, 1 / elements_per_s});
  return machine;
}

struct Case {
  std::string_view name;
  OperatorArguments arguments;
  std::int64_t tokens;
  int ranks;
  Machine machine;
  std::string_view expected;
};

TEST(Choice, FollowsTheMachine) {
  const Machine usual = uniform(3e-6, 1e10, 1e9), slow_network = uniform(3e-6, 1e5, 1e10),
                high_latency = uniform(1, 1e15, 1e15), slow_processor = uniform(1e-9, 1e13, 1e5);
  const Case cases[] = {
      {"the fewest bytes over a slow network", convolution(64, 7), 1 << 16, 4, slow_network, "halo"},
      {"one message if latency is high", convolution(64, 7), 1 << 16, 4, high_latency, "halo"},
      {"overlap if the halo takes as long as the convolution", convolution(64, 128), 1 << 10, 4,
       uniform(0, 64 * 127 * 4, 64 * 256), "halo_overlapped"},
      {"no communication to hide: the first row", convolution(64, 128), 1 << 20, 4, usual, "halo"},
      {"all_to_all for a filter longer than a shard", convolution(64, 1 << 14), 1 << 12, 4, slow_network, "all_to_all"},
      {"over a slow network the state, not the sequence", scan(64, 16), 1 << 20, 8, slow_network, "state_carry"},
      {"no second pass if the processor is slow", scan(256, 16), 1 << 14, 8, slow_processor, "all_to_all"},
      {"a second pass rather than half-filled vectors", scan(64, 16), 1 << 14, 8, slow_processor, "state_carry"},
      {"one rank takes the first row", scan(64, 16), 1 << 14, 1, usual, "state_carry"},
      {"a pack without tokens", scan(64, 16), 0, 3, usual, "state_carry"},
  };
  for (const Case& c : cases) {
    const Sharding sharding(ShardLayout(c.tokens, c.ranks, Layout::contiguous), Segments::one_document(c.tokens), 0);
    const auto rows = estimates(sharding, std::vector{c.arguments}, c.machine, {});
    EXPECT_EQ(cheapest(rows).strategy, c.expected) << c.name;
  }
}

TEST(Choice, AddsUpTheCallsOfAnOperator) {
  const Machine usual = uniform(3e-6, 1e10, 1e9);
  const Sharding sharding(ShardLayout(4096, 4, Layout::zigzag), Segments::one_document(4096), 2);
  const auto one = estimates(sharding, std::vector{convolution(8, 7)}, usual, {}),
             other = estimates(sharding, std::vector{convolution(32, 128)}, usual, {}),
             both = estimates(sharding, std::vector{convolution(8, 7), convolution(32, 128)}, usual, {});
  ASSERT_EQ(both.size(), gated_convolution_strategies().size());
  for (std::size_t i = 0; i < both.size(); ++i) {
    EXPECT_EQ(both[i].strategy, gated_convolution_strategies()[i].name);
    EXPECT_EQ(both[i].bytes_sent, one[i].bytes_sent + other[i].bytes_sent);
    EXPECT_EQ(both[i].messages, one[i].messages + other[i].messages);
    EXPECT_DOUBLE_EQ(both[i].seconds, one[i].seconds + other[i].seconds);
  }
}

TEST(Choice, CountsThePassesOfAStep) {
  const Sharding sharding(ShardLayout(4096, 4, Layout::contiguous), Segments::one_document(4096), 0);
  const Machine machine = uniform(3e-6, 1e10, 1e9);
  const auto total = [&](PassCounts passes) {
    return estimates(sharding, std::vector{scan(32, 16)}, machine, passes).front().seconds;
  };
  const double forward = total({1, 0}), backward = total({0, 1});
  EXPECT_GT(forward, 0);
  EXPECT_GT(backward, 0);
  EXPECT_DOUBLE_EQ(total({2, 1}), 2 * forward + backward);
  // A repeated pass computes no summary and sends nothing.
  EXPECT_LT(total({1, 1, 1}), 2 * forward + backward - 3e-6);
}

TEST(Choice, ASmallDifferenceChoosesTheEarlierRow) {
  const auto chosen = [](std::vector<double> seconds) {
    std::vector<Estimate> rows;
    for (const double each : seconds) rows.push_back({.strategy = "row", .seconds = each});
    return &cheapest(rows) - rows.data();
  };
  EXPECT_EQ(chosen({1.0, 1.0}), 0);
  EXPECT_EQ(chosen({1.02, 1.0}), 0);
  EXPECT_EQ(chosen({1.04, 1.0}), 1);
  EXPECT_EQ(chosen({5.0, 1.02, 1.0}), 1);
  EXPECT_EQ(chosen({0.0, 0.0}), 0);
}

TEST(Choice, EveryTableIsListedInItsOrder) {
  for (const ListedOperator& op : listed_operators()) {
    ASSERT_FALSE(op.strategies.empty()) << op.name;
    for (const ListedStrategy& row : op.strategies) EXPECT_TRUE(row.runs_on(Layout::contiguous)) << row.name;
  }
  EXPECT_EQ(listed_operators().front().strategies.front().name, "halo");
}

}  // namespace
}  // namespace causeway::test

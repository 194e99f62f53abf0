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

struct Case {
  std::string_view name;
  OperatorArguments arguments;
  std::int64_t tokens;
  int ranks;
  Machine machine;
  std::string_view expected;
};

constexpr Machine usual{.latency_s = 3e-6, .bytes_per_s = 1e10, .operations_per_s = 1e10};
constexpr Machine slow_network{.latency_s = 3e-6, .bytes_per_s = 1e5, .operations_per_s = 1e12};
constexpr Machine high_latency{.latency_s = 1, .bytes_per_s = 1e15, .operations_per_s = 1e15};
constexpr Machine slow_processor{.latency_s = 1e-9, .bytes_per_s = 1e13, .operations_per_s = 1e6};

TEST(Choice, FollowsTheMachine) {
  const Case cases[] = {
      {"the fewest bytes over a slow network", convolution(64, 7), 1 << 16, 4, slow_network, "halo"},
      {"one message if latency is high", convolution(64, 7), 1 << 16, 4, high_latency, "halo"},
      {"overlap if the halo takes as long as the convolution",
       convolution(64, 128),
       1 << 10,
       4,
       {.latency_s = 0, .bytes_per_s = 64 * 127 * 4, .operations_per_s = 64 * 128 * 256},
       "halo_overlapped"},
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
    const auto rows = estimates(sharding, std::vector{c.arguments}, c.machine);
    EXPECT_EQ(cheapest(rows).strategy, c.expected) << c.name;
  }
}

TEST(Choice, AddsUpTheCallsOfAnOperator) {
  const Sharding sharding(ShardLayout(4096, 4, Layout::zigzag), Segments::one_document(4096), 2);
  const auto one = estimates(sharding, std::vector{convolution(8, 7)}, usual),
             other = estimates(sharding, std::vector{convolution(32, 128)}, usual),
             both = estimates(sharding, std::vector{convolution(8, 7), convolution(32, 128)}, usual);
  ASSERT_EQ(both.size(), gated_convolution_strategies().size());
  for (std::size_t i = 0; i < both.size(); ++i) {
    EXPECT_EQ(both[i].strategy, gated_convolution_strategies()[i].name);
    EXPECT_EQ(both[i].bytes_sent, one[i].bytes_sent + other[i].bytes_sent);
    EXPECT_EQ(both[i].messages, one[i].messages + other[i].messages);
    EXPECT_DOUBLE_EQ(both[i].seconds, one[i].seconds + other[i].seconds);
  }
}

TEST(Choice, ADifferenceBelowATenthChoosesTheEarlierRow) {
  const auto chosen = [](std::vector<double> seconds) {
    std::vector<Estimate> rows;
    for (const double each : seconds) rows.push_back({.strategy = "row", .seconds = each});
    return &cheapest(rows) - rows.data();
  };
  EXPECT_EQ(chosen({1.0, 1.0}), 0);
  EXPECT_EQ(chosen({1.09, 1.0}), 0);
  EXPECT_EQ(chosen({1.11, 1.0}), 1);
  EXPECT_EQ(chosen({5.0, 1.05, 1.0}), 1);
  EXPECT_EQ(chosen({0.0, 0.0}), 0);
}

TEST(Choice, SecondsCountHiddenCommunicationOnlyWhereItExceedsComputation) {
  const Machine machine{.latency_s = 1, .bytes_per_s = 10, .operations_per_s = 100};
  EXPECT_DOUBLE_EQ(seconds({.operations = 300, .bytes_sent = 40, .messages = 2, .hidden = 0}, machine), 3 + 6);
  EXPECT_DOUBLE_EQ(seconds({.operations = 300, .bytes_sent = 40, .messages = 2, .hidden = 1}, machine), 6);
  EXPECT_DOUBLE_EQ(seconds({.operations = 900, .bytes_sent = 40, .messages = 2, .hidden = 0.5}, machine), 9 + 3);
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

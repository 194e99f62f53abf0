/// Whether communication overlaps with computation, on ranks whose messages take exactly as long as the computation
/// (support/delaying_transport.hpp). If both take T, strategies that overlap must take at most 1.15 T; the plain ones
/// take about 2 T.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>

#include "parallel/strategy.hpp"
#include "tests/support/delaying_transport.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

constexpr int ranks = 2, repetitions = 6;

/// An operator with its tensors on one rank, to run with any strategy of its table.
struct TimedOperator {
  std::function<void(std::string_view strategy, const StrategyContext&, Saved*)> forward;
  std::function<void(std::string_view strategy, const StrategyContext&, Saved&)> backward;
};

struct OverlapCase {
  std::string_view name, plain, overlapped;
  std::int64_t tokens;
  TimedOperator (*prepare)(const Stream&, std::int64_t local_tokens);
};

/// Keeps the tensors of an operator alive.
class Holder {
 public:
  explicit Holder(const Stream& stream) : stream_(stream) {}
  /// Repeats a few random values: drawing every element would take longer than the measurement.
  TensorView add(Shape shape, double low = -1, double high = 1) {
    constexpr std::size_t count = 4093;
    const Tensor values = random_tensor(stream_, DType::f32, {count}, 7 + tensors_.size(), low, high);
    const TensorView x = tensors_.emplace_back(stream_, DType::f32, shape);
    for (std::size_t i = 0; float& element : x.as<float>()) element = values.view().as<float>()[i++ % count];
    return x;
  }

 private:
  Stream stream_;
  std::vector<Tensor> tensors_;
};

template <class Forward, class Backward, class Table>
TimedOperator timed_operator(std::shared_ptr<Holder> holder, const Forward& forward, const Backward& backward,
                             Table table) {
  return {.forward = [=](std::string_view name, const StrategyContext& context,
                         Saved* saved) { find_strategy(table(), "", name).forward(context, forward, saved); },
          .backward = [=, holder = std::move(holder)](
                          std::string_view name, const StrategyContext& context,
                          Saved& saved) { find_strategy(table(), "", name).backward(context, backward, saved); }};
}

constexpr std::int64_t channels =
    1024;  // 32 channels in each of 16 slices on 2 ranks, as 4096 channels have on 8 ranks

TimedOperator causal_conv_operator(const Stream& stream, std::int64_t tokens) {
  const auto hold = std::make_shared<Holder>(stream);
  const CausalConvForward forward{.x = hold->add({tokens, channels}),
                                  .halo = {},
                                  .weight = hold->add({channels, 4}),
                                  .bias = {},
                                  .segments = {},
                                  .activation = Activation::silu,
                                  .y = hold->add({tokens, channels})};
  const CausalConvBackward backward{.x = forward.x,
                                    .halo = {},
                                    .weight = forward.weight,
                                    .bias = {},
                                    .segments = {},
                                    .activation = Activation::silu,
                                    .d_y = hold->add({tokens, channels}),
                                    .d_x = hold->add({tokens, channels}),
                                    .d_halo = {},
                                    .d_weight = hold->add({channels, 4}),
                                    .d_bias = {}};
  return timed_operator(hold, forward, backward, convolution_strategies);
}

GatedConvInputs gated_inputs(Holder& hold, std::int64_t tokens) {
  const Shape rows{tokens, channels};
  return {.q = hold.add(rows), .k = hold.add(rows), .v = hold.add(rows), .skip = hold.add({channels}), .segments = {}};
}
GatedConvGradients gated_gradients(Holder& hold, std::int64_t tokens) {
  const Shape rows{tokens, channels};
  return {.d_y = hold.add(rows),
          .d_q = hold.add(rows),
          .d_k = hold.add(rows),
          .d_v = hold.add(rows),
          .d_skip = hold.add({channels})};
}

TimedOperator hyena_mr_operator(const Stream& stream, std::int64_t tokens) {
  const auto hold = std::make_shared<Holder>(stream);
  const BlockedConvForward forward{.in = gated_inputs(*hold, tokens),
                                   .halo = {},
                                   .taps = hold->add({channels, 128}),
                                   .y = hold->add({tokens, channels})};
  const BlockedConvBackward backward{.in = forward.in,
                                     .halo = {},
                                     .taps = forward.taps,
                                     .gradients = gated_gradients(*hold, tokens),
                                     .d_halo = {},
                                     .d_taps = hold->add({channels, 128})};
  return timed_operator(hold, forward, backward, gated_convolution_strategies);
}

TimedOperator hyena_li_operator(const Stream& stream, std::int64_t tokens) {
  const auto hold = std::make_shared<Holder>(stream);
  const Shape modes{channels, 16};
  const ModalConvForward forward{.in = gated_inputs(*hold, tokens),
                                 .residues = hold->add(modes),
                                 .log_rates = hold->add(modes, -6, -1),
                                 .state_in = {},
                                 .y = hold->add({tokens, channels}),
                                 .states = {}};
  const ModalConvBackward backward{.in = forward.in,
                                   .residues = forward.residues,
                                   .log_rates = forward.log_rates,
                                   .states = {},
                                   .adjoint_in = {},
                                   .gradients = gated_gradients(*hold, tokens),
                                   .d_residues = hold->add(modes),
                                   .d_log_rates = hold->add(modes)};
  return timed_operator(hold, forward, backward, modal_convolution_strategies);
}

TimedOperator long_conv_operator(const Stream& stream, std::int64_t tokens) {
  const auto hold = std::make_shared<Holder>(stream);
  GatedConvInputs in;
  in.v = hold->add({tokens, channels});
  const TensorView taps = hold->add({channels, 512});
  const FftConvForward forward{.in = in, .taps = taps, .y = hold->add({tokens, channels})};
  const FftConvBackward backward{.in = in,
                                 .taps = taps,
                                 .gradients = {.d_y = hold->add({tokens, channels}),
                                               .d_q = {},
                                               .d_k = {},
                                               .d_v = hold->add({tokens, channels}),
                                               .d_skip = {}},
                                 .d_taps = hold->add({channels, 512})};
  return timed_operator(hold, forward, backward, long_convolution_strategies);
}

void PrintTo(const OverlapCase& c, std::ostream* out) { *out << c.name; }

constexpr OverlapCase cases[] = {
    {"causal_conv halo", "halo", "halo_overlapped", 4096, causal_conv_operator},
    {"causal_conv all_to_all", "all_to_all", "all_to_all_pipelined", 8192, causal_conv_operator},
    {"hyena_mr halo", "halo", "halo_overlapped", 8192, hyena_mr_operator},
    {"hyena_mr all_to_all", "all_to_all", "all_to_all_pipelined", 4096, hyena_mr_operator},
    {"hyena_li all_to_all", "all_to_all", "all_to_all_pipelined", 4096, hyena_li_operator},
    {"long_conv all_to_all", "all_to_all", "all_to_all_pipelined", 4096, long_conv_operator},
};

/// Forward or backward of an operator: `run` is timed, `prepare` is called before it.
struct Pass {
  std::function<void(std::string_view strategy)> prepare, run;
};

/// The virtual seconds of one run on the slowest rank, and the most bytes that a rank sent.
struct RunTime {
  double total_s, computing_s;
  std::int64_t bytes;
};

RunTime timed(Communicator& world, VirtualRank& self, const Pass& pass, std::string_view strategy,
              const Network& network, LeastSeconds& least) {
  pass.prepare(strategy);
  world.barrier();
  self.set_network(network);
  self.count_least(&least);
  const RankTime begin = self.now();
  pass.run(strategy);
  const RankTime end = self.now();
  self.count_least(nullptr);
  self.set_network({});
  return {world.max(end.total_s - begin.total_s), world.max(end.computing_s - begin.computing_s),
          world.max(end.bytes_sent - begin.bytes_sent)};
}

/// Both strategies over a network on which the plain strategy's messages take as long as its computation. Each ratio is
/// the time divided by the longer of communication and computation.
struct Measured {
  RunTime plain, overlapped;
  double ratio(const RunTime& run) const { return run.total_s / std::max(plain.computing_s, run.computing_s); }
};

Measured measure(Communicator& world, VirtualRank& self, const Pass& pass, const OverlapCase& c) {
  LeastSeconds of_plain, of_overlapped;
  Measured last;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    // The last repetition counts, which knows the least times of all; its network is as fast as they are.
    const RunTime plain = timed(world, self, pass, c.plain, {}, of_plain);
    const Network network{.latency_s = 0, .seconds_a_byte = plain.computing_s / static_cast<double>(plain.bytes)};
    last.overlapped = timed(world, self, pass, c.overlapped, network, of_overlapped);
    last.plain = timed(world, self, pass, c.plain, network, of_plain);
  }
  return last;
}

class Overlap : public testing::TestWithParam<OverlapCase> {};
INSTANTIATE_TEST_SUITE_P(All, Overlap, testing::ValuesIn(cases), [](const auto& instance) {
  std::string name(instance.param.name);
  std::ranges::replace(name, ' ', '_');
  return name;
});

TEST_P(Overlap, CommunicationOverlapsWithComputation) {
  if (under_mpi()) GTEST_SKIP() << "virtual time needs ranks that are threads";
  const OverlapCase& c = GetParam();
  Measured forward, backward;
  in_virtual_time(ranks, [&](Communicator& world, VirtualRank& self) {
    const Stream stream;
    const Sharding sharding(ShardLayout(c.tokens, ranks, Layout::contiguous), Segments::one_document(c.tokens),
                            world.rank());
    const StrategyContext context{sharding, world, stream};
    const TimedOperator op = c.prepare(stream, sharding.local_tokens());
    Saved saved;
    const Measured forward_times =
        measure(world, self,
                {.prepare = [](std::string_view) {},
                 .run = [&](std::string_view strategy) { op.forward(strategy, context, nullptr); }},
                c);
    const Measured backward_times =
        measure(world, self,
                {.prepare = [&](std::string_view strategy) { op.forward(strategy, context, &saved); },
                 .run = [&](std::string_view strategy) { op.backward(strategy, context, saved); }},
                c);
    saved.ensure_empty();
    if (world.rank() == 0) forward = forward_times, backward = backward_times;
  });
  for (const auto& [direction, found] : {std::pair("forward", forward), std::pair("backward", backward)}) {
    // How much slower the computation in parts is depends on the kernel and is printed, not tested (a third for a
    // filter of four taps: copying its slices takes longer than convolving them).
    const double computes = found.overlapped.computing_s / found.plain.computing_s;
    fmt::print(
        "{:<24} {:<8} {:>7.1f} ms {:>9} bytes   {} {:.3f}   {} {:.3f}, computation {:.3f} of the plain strategy\n",
        c.name, direction, 1e3 * found.plain.computing_s, found.plain.bytes, c.plain, found.ratio(found.plain),
        c.overlapped, found.ratio(found.overlapped), computes);
    EXPECT_GE(found.ratio(found.plain), 1.9) << direction;
    EXPECT_LE(found.ratio(found.overlapped), 1.15) << direction;
  }
}

/// Messages take 100 s. Rank r has the states of all layers after r messages, if no rank waits for its own sends.
TEST(VirtualTime, ARelayWaitsOnceForAllLayersThatPassStatesInOneDirection) {
  if (under_mpi()) GTEST_SKIP() << "virtual time needs ranks that are threads";
  in_virtual_time(3, [](Communicator& world, VirtualRank& self) {
    world.barrier();
    self.set_network({.latency_s = 100});
    const Stream stream;
    const Sharding sharding(ShardLayout(30, 3, Layout::contiguous), Segments::one_document(30), world.rank());
    const Tensor carries(stream, DType::f32, {1, 1});
    for (const Direction direction : {Direction::rightwards, Direction::leftwards}) {
      const double begin = self.now().total_s;
      for (int layer = 0; layer < 20; ++layer)
        run_relay({.sharding = sharding,
                   .direction = direction,
                   .carries = carries,
                   .scan =
                       [&](const Chunk&, TensorView carry, TensorView leaving) {
                         if (leaving.present())
                           leaving.row<float>(0)[0] = carry.present() ? carry.row<float>(0)[0] + 1 : 1;
                       }},
                  world, stream);
      const int before = direction == Direction::rightwards ? world.rank() : 2 - world.rank();
      EXPECT_EQ(carries.view().row<float>(0)[0], static_cast<float>(before));
      EXPECT_NEAR(self.now().total_s - begin, 100 * before, 0.5);
      world.barrier();
    }
    self.set_network({});
    world.barrier();
  });
}

TEST(VirtualTime, AMessageIsSentWhenTheLinkIsFreeAndAWaitLastsUntilItArrives) {
  if (under_mpi()) GTEST_SKIP() << "virtual time needs ranks that are threads";
  in_virtual_time(2, [](Communicator& world, VirtualRank& self) {
    world.barrier();
    self.set_network({.latency_s = 100, .seconds_a_byte = 1});
    const double begin = self.now().total_s;
    std::array<std::byte, 30> out{}, in{};
    const Transfer first{.peer = 1 - world.rank(), .send = std::span(out).first(10), .recv = std::span(in).first(10)};
    const Transfer second{.peer = 1 - world.rank(), .send = std::span(out).first(20), .recv = std::span(in).last(20)};
    const Stream stream;
    Pending one = world.start({&first, 1}, stream), two = world.start({&second, 1}, stream);
    EXPECT_NEAR(self.now().total_s - begin, 0, 0.5);
    one.wait();
    EXPECT_NEAR(self.now().total_s - begin, 110, 0.5);
    two.wait();
    EXPECT_NEAR(self.now().total_s - begin, 130, 0.5);
    EXPECT_NEAR(self.now().computing_s, 0, 0.5);
    EXPECT_EQ(self.now().bytes_sent, 30);
    self.set_network({});
    world.barrier();
  });
}

}  // namespace
}  // namespace causeway::test

/// Whether communication hides behind computation, over ranks whose messages take exactly as long as the computation
/// (support/delaying_transport.hpp): with T the length of either, forms that overlap shall take 1.15 T, the plain ones
/// 2 T.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <ostream>

#include "parallel/strategy.hpp"
#include "tests/support/delaying_transport.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

constexpr int ranks = 2, repetitions = 6;

/// An operator with its tensors on one rank, under any strategy of its table.
struct Subject {
  std::function<void(std::string_view strategy, const StrategyContext&, Saved*)> forward;
  std::function<void(std::string_view strategy, const StrategyContext&, Saved&)> backward;
};

struct OverlapCase {
  std::string_view name, plain, overlapped;
  std::int64_t tokens;
  Subject (*prepare)(const Stream&, std::int64_t local_tokens);
};

/// A rank's tensors, alive as long as the subject.
class Holder {
 public:
  explicit Holder(const Stream& stream) : stream_(stream) {}
  /// A few random numbers over and over: drawing each would take longer than what is measured.
  TensorView add(Shape shape, double low = -1, double high = 1) {
    constexpr std::size_t count = 4093;
    const Tensor numbers = random_tensor(stream_, DType::f32, {count}, 7 + tensors_.size(), low, high);
    const TensorView x = tensors_.emplace_back(stream_, DType::f32, shape);
    for (std::size_t i = 0; float& element : x.as<float>()) element = numbers.view().as<float>()[i++ % count];
    return x;
  }

 private:
  Stream stream_;
  std::vector<Tensor> tensors_;
};

template <class Forward, class Backward, class Table>
Subject subject(std::shared_ptr<Holder> holder, const Forward& forward, const Backward& backward, Table table) {
  return {.forward = [=](std::string_view name, const StrategyContext& context,
                         Saved* saved) { find_strategy(table(), "", name).forward(context, forward, saved); },
          .backward = [=, holder = std::move(holder)](
                          std::string_view name, const StrategyContext& context,
                          Saved& saved) { find_strategy(table(), "", name).backward(context, backward, saved); }};
}

constexpr std::int64_t channels = 1024;  // 32 of them in a slice of 16, as 4096 have it on 8 ranks

Subject causal_conv_subject(const Stream& stream, std::int64_t tokens) {
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
  return subject(hold, forward, backward, convolution_strategies);
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

Subject hyena_mr_subject(const Stream& stream, std::int64_t tokens) {
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
  return subject(hold, forward, backward, gated_convolution_strategies);
}

Subject hyena_li_subject(const Stream& stream, std::int64_t tokens) {
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
  return subject(hold, forward, backward, modal_convolution_strategies);
}

Subject long_conv_subject(const Stream& stream, std::int64_t tokens) {
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
  return subject(hold, forward, backward, long_convolution_strategies);
}

void PrintTo(const OverlapCase& c, std::ostream* out) { *out << c.name; }

constexpr OverlapCase cases[] = {
    {"causal_conv halo", "halo", "halo_overlapped", 16384, causal_conv_subject},
    {"causal_conv all_to_all", "all_to_all", "all_to_all_pipelined", 8192, causal_conv_subject},
    {"hyena_mr halo", "halo", "halo_overlapped", 8192, hyena_mr_subject},
    {"hyena_mr all_to_all", "all_to_all", "all_to_all_pipelined", 4096, hyena_mr_subject},
    {"hyena_li all_to_all", "all_to_all", "all_to_all_pipelined", 4096, hyena_li_subject},
    {"long_conv all_to_all", "all_to_all", "all_to_all_pipelined", 4096, long_conv_subject},
};

/// One direction of an operator: what is timed, and what has to be done before, with the clock unread.
struct Pass {
  std::function<void(std::string_view strategy)> prepare, run;
};

/// What one run took: the slowest rank's, in virtual seconds, and the bytes of the one that sent most.
struct Taken {
  double total_s, computing_s;
  std::int64_t bytes;
};

Taken timed(Communicator& world, VirtualRank& self, const Pass& pass, std::string_view strategy,
            const Network& network) {
  pass.prepare(strategy);
  world.barrier();
  const RankTime begin = self.now();
  self.set_network(network);
  pass.run(strategy);
  const RankTime end = self.now();
  self.set_network({});
  return {world.max(end.total_s - begin.total_s), world.max(end.computing_s - begin.computing_s),
          world.max(end.bytes_sent - begin.bytes_sent)};
}

/// Of one form over the network: how long it takes in units of the longer of its communication and its computation,
/// and how long it computes, at the shortest. Processor time is a rough clock on a machine that others use (two threads
/// of one core slow each other by a fifth), so each run is held against its own.
struct Form {
  double least = std::numeric_limits<double>::infinity(), most = 0;  ///< of the repetitions
  double computing_s = std::numeric_limits<double>::infinity();
};

struct Found {
  Form plain, overlapped;
  std::int64_t bytes = 0;
};

Found measure(Communicator& world, VirtualRank& self, const Pass& pass, const OverlapCase& c) {
  Found found;
  for (int repetition = 0; repetition < repetitions; ++repetition) {
    // The network is made anew each time: what else the machine does changes slower than that.
    const Taken plain = timed(world, self, pass, c.plain, {});
    found.bytes = plain.bytes;
    const Network network{.latency_s = 0, .seconds_a_byte = plain.computing_s / static_cast<double>(plain.bytes)};
    for (const auto& [strategy, form] :
         {std::pair(c.plain, &found.plain), std::pair(c.overlapped, &found.overlapped)}) {
      const Taken taken = timed(world, self, pass, strategy, network);
      const double ratio = taken.total_s / std::max(plain.computing_s, taken.computing_s);
      form->least = std::min(form->least, ratio);
      form->most = std::max(form->most, ratio);
      form->computing_s = std::min(form->computing_s, taken.computing_s);
    }
  }
  return found;
}

class Overlap : public testing::TestWithParam<OverlapCase> {};
INSTANTIATE_TEST_SUITE_P(All, Overlap, testing::ValuesIn(cases), [](const auto& instance) {
  std::string name(instance.param.name);
  std::ranges::replace(name, ' ', '_');
  return name;
});

TEST_P(Overlap, CommunicationHidesBehindComputation) {
  if (under_mpi()) GTEST_SKIP() << "in virtual time, over threads";
  const OverlapCase& c = GetParam();
  Found forward, backward;
  in_virtual_time(ranks, [&](Communicator& world, VirtualRank& self) {
    const Stream stream;
    const Sharding sharding(ShardLayout(c.tokens, ranks, Layout::contiguous), Segments::one_document(c.tokens),
                            world.rank());
    const StrategyContext context{sharding, world, stream};
    const Subject subject = c.prepare(stream, sharding.local_tokens());
    Saved saved;
    const Found there =
        measure(world, self,
                {.prepare = [](std::string_view) {},
                 .run = [&](std::string_view strategy) { subject.forward(strategy, context, nullptr); }},
                c);
    const Found back =
        measure(world, self,
                {.prepare = [&](std::string_view strategy) { subject.forward(strategy, context, &saved); },
                 .run = [&](std::string_view strategy) { subject.backward(strategy, context, saved); }},
                c);
    saved.ensure_empty();
    if (world.rank() == 0) forward = there, backward = back;
  });
  for (const auto& [direction, found] : {std::pair("forward", forward), std::pair("backward", backward)}) {
    // What cutting the work into parts adds to the computation is told, not tested: it is the kernel's affair (a third
    // for a filter of four taps, whose slices are copied for longer than they are convolved).
    const double computes = found.overlapped.computing_s / found.plain.computing_s;
    fmt::print("{:<24} {:<8} {:>7.1f} ms {:>9} bytes   {} {:.3f}   {} {:.3f}, computing {:.3f} of the plain form's\n",
               c.name, direction, 1e3 * found.plain.computing_s, found.bytes, c.plain, found.plain.most, c.overlapped,
               found.overlapped.least, computes);
    EXPECT_GE(found.plain.most, 1.9) << direction;
    EXPECT_LE(found.overlapped.least, 1.15) << direction;
  }
}

TEST(VirtualTime, AMessageLeavesWhenTheLinkIsFreeAndAWaitTakesUntilItIsThere) {
  if (under_mpi()) GTEST_SKIP() << "over threads";
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

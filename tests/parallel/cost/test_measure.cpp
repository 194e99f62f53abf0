#include "parallel/cost/measure.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/ranks.hpp"

namespace causeway::test {
namespace {

class Measure : public testing::TestWithParam<std::tuple<int, Device>> {};
INSTANTIATE_TEST_SUITE_P(Ranks, Measure, testing::Combine(testing::Values(1, 2, 3), testing::ValuesIn(devices())),
                         [](const auto& instance) {
                           return std::to_string(std::get<0>(instance.param)) + suffix_of(std::get<1>(instance.param));
                         });

/// One call of every operator, of few channels.
std::vector<OperatorArguments> every_operator(DType dtype) {
  const DType wide = accumulator_of(dtype);
  const auto shaped = [&](Shape shape) { return without_data(dtype, shape); };
  const TensorView x = shaped({1, 32}), modes = without_data(wide, {32, 4}), heads = shaped({1, 2, 16});
  const GatedConvInputs gated{.q = x, .k = x, .v = x, .skip = {}, .segments = {}};
  CausalConvForward conv;
  conv.x = conv.y = x;
  conv.weight = shaped({32, 4});
  SelectiveScanForward scan;
  scan.in.u = scan.in.delta = scan.in.z = scan.y = x;
  scan.in.B = scan.in.C = shaped({1, 4});
  scan.in.A = modes;
  return {conv,
          BlockedConvForward{.in = gated, .halo = {}, .taps = shaped({2, 7}), .y = x},
          ModalConvForward{.in = gated, .residues = modes, .log_rates = modes, .y = x},
          FftConvForward{.in = gated, .taps = shaped({2, 64}), .y = x},
          scan,
          RotaryAttentionForward{.q = heads, .k = heads, .v = heads, .y = heads}};
}

TEST_P(Measure, IsTheSameOnEveryRankAndDoesNotCountAsTraffic) {
  const auto& [ranks, device] = GetParam();
  on_ranks(ranks, device, [](Communicator& world, const Stream& stream) {
    const Traffic before = world.traffic();
    const std::int64_t bytes_before = stream.memory().live_bytes();
    const DType dtype = stream.device() == Device::cpu ? DType::f32 : DType::bf16;
    const std::vector<OperatorArguments> calls = every_operator(dtype);
    Machine machine = measure_links(world, stream);
    measure_kernels(machine, world, stream, calls, {.local_tokens = 200, .longest_document = 300});
    EXPECT_EQ(world.traffic().messages_sent, before.messages_sent);
    std::vector<double> figures{machine.latency_s, machine.bytes_per_s, machine.all_bytes_per_s,
                                machine.copy_bytes_per_s, machine.copy_call_s};
    for (const KernelRate& rate : machine.kernels) figures.push_back(rate.element_s);
    for (const double figure : figures) {
      EXPECT_GT(figure, 0);
      EXPECT_EQ(figure, world.max(figure));
      EXPECT_EQ(figure, -world.max(-figure));
    }
    EXPECT_LT(machine.latency_s, 1);
    EXPECT_GE(machine.message_s, 0);
    EXPECT_LT(machine.message_s, 1);
    EXPECT_EQ(machine.message_s, world.max(machine.message_s));
    for (const OperatorArguments& call : calls)
      for (const TimedKernel& kernel : kernels_of(call, {.local_tokens = 200, .longest_document = 300}))
        EXPECT_EQ(rate_of(machine, kernel).kernel, kernel) << text_of(kernel);
    const std::size_t count = machine.kernels.size();
    measure_kernels(machine, world, stream, calls, {.local_tokens = 200, .longest_document = 300});
    EXPECT_EQ(machine.kernels.size(), count) << "measured twice";
    world.barrier();  // threads that share a GPU free a message only after its receiver has read it
    EXPECT_EQ(stream.memory().live_bytes(), bytes_before);
    if (world.rank() == 0 && stream.device() == Device::cuda)
      fmt::print("{} ranks on GPUs: latency {:.1f} us, {:.1f} GB/s a rank, copies {:.1f} GB/s\n", world.size(),
                 machine.latency_s * 1e6, machine.bytes_per_s * 1e-9, machine.copy_bytes_per_s * 1e-9);
  });
}

TEST(SlowestMachine, IsTheResultOnAllRanks) {
  on_ranks(3, [](Communicator& world) {
    const double rank = world.rank();
    const Machine all = slowest({.latency_s = 1 + rank,
                                 .message_s = 5 - rank,
                                 .bytes_per_s = 10 + rank,
                                 .all_bytes_per_s = 20 - rank,
                                 .overlap = 1 - rank / 4,
                                 .latency_overlap = 0.25 + rank / 4,
                                 .copy_bytes_per_s = 100 - rank,
                                 .copy_call_s = rank,
                                 .kernels = {{{.width = 4}, 1 + rank, 10 - rank}}},
                                world);
    EXPECT_EQ(all.latency_s, 3);
    EXPECT_EQ(all.message_s, 5);
    EXPECT_EQ(all.bytes_per_s, 10);
    EXPECT_EQ(all.all_bytes_per_s, 18);
    EXPECT_EQ(all.overlap, 0.5);
    EXPECT_EQ(all.latency_overlap, 0.25);
    EXPECT_EQ(all.copy_bytes_per_s, 98);
    EXPECT_EQ(all.copy_call_s, 2);
    ASSERT_EQ(all.kernels.size(), 1u);
    EXPECT_EQ(all.kernels[0].call_s, 3);
    EXPECT_EQ(all.kernels[0].element_s, 10);
  });
}

}  // namespace
}  // namespace causeway::test

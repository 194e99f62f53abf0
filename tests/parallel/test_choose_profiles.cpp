/// The choices for machines whose figures were measured, compared with the strategies that were fastest there.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "parallel/choose.hpp"

namespace causeway::test {
namespace {

/// Two H200s over NVLink, bf16: times of a document of 65,536 tokens and 4,096 channels on one GPU
/// (kernels/cuda/*/README.md), of messages (parallel/transport/README.md; `bench strategies`), of copies (a device
/// copy).
Machine two_h200s() {
  Machine machine{.latency_s = 23e-6,
                  .bytes_per_s = 281e9,
                  .all_bytes_per_s = 281e9,
                  .overlap = 0.66,
                  .latency_overlap = 0.05,
                  .copy_bytes_per_s = 4.0e12,
                  .copy_call_s = 5e-6};
  const auto add = [&](TimedKernel kernel, double forward_ps, double backward_ps) {
    machine.kernels.push_back({kernel, 10e-6, forward_ps * 1e-12});
    kernel.backward = true;
    machine.kernels.push_back({kernel, 10e-6, backward_ps * 1e-12});
  };
  add({KernelKind::causal_conv, 4}, 1.5, 3.0);
  add({KernelKind::blocked_conv, 7, 16, true}, 2.2, 5.4);
  add({KernelKind::blocked_conv, 7, 16}, 1.3, 2.7);
  add({KernelKind::blocked_conv, 128, 16, true}, 2.3, 7.9);
  add({KernelKind::blocked_conv, 128, 16}, 1.7, 5.2);
  add({KernelKind::modal_conv, 16, 1, true}, 8.2, 21);
  add({KernelKind::modal_conv, 16}, 7.5, 18);
  add({KernelKind::modal_summary, 16, 1, true}, 3.7, 4.5);
  add({KernelKind::filter_spectrum, 16}, 10, 20);
  add({KernelKind::fft_conv, 65536, 16}, 27, 45);
  add({KernelKind::shard_transform, 32768}, 14, 14);
  add({KernelKind::rotation}, 5, 5);
  add({KernelKind::selective_scan, 16, 1, true}, 14.5, 52.8);
  add({KernelKind::selective_scan, 16}, 14.2, 51);
  add({KernelKind::scan_summary, 16}, 6.6, 7.4);
  add({KernelKind::attention, 128}, 0.0111, 0.0448);
  return machine;
}

/// Two processes on the two cores of a laptop, f32, 64 channels.
Machine laptop() {
  Machine machine{.latency_s = 5e-6,
                  .bytes_per_s = 3e9,
                  .all_bytes_per_s = 3e9,
                  .overlap = 0,
                  .latency_overlap = 0,
                  .copy_bytes_per_s = 8e9,
                  .copy_call_s = 2e-7};
  const auto add = [&](TimedKernel kernel, double forward_ns, double backward_ns) {
    machine.kernels.push_back({kernel, 1e-6, forward_ns * 1e-9});
    kernel.backward = true;
    machine.kernels.push_back({kernel, 1e-6, backward_ns * 1e-9});
  };
  add({KernelKind::causal_conv, 4}, 0.61, 1.37);
  add({KernelKind::blocked_conv, 7, 16, true}, 0.38, 0.9);
  add({KernelKind::blocked_conv, 7, 16}, 0.3, 0.7);
  add({KernelKind::blocked_conv, 128, 16, true}, 1.5, 4.3);
  add({KernelKind::blocked_conv, 128, 16}, 1.45, 4.2);
  add({KernelKind::modal_conv, 16, 1, true}, 1.6, 4.6);
  add({KernelKind::modal_conv, 16}, 1.5, 4.5);
  add({KernelKind::modal_summary, 16, 1, true}, 0.6, 0.7);
  add({KernelKind::filter_spectrum, 16}, 20, 40);
  add({KernelKind::fft_conv, 4096, 16}, 10, 15);
  add({KernelKind::shard_transform, 2048}, 8, 8);
  add({KernelKind::rotation}, 6, 6);
  add({KernelKind::selective_scan, 16, 1, true}, 6.4, 12.5);
  add({KernelKind::selective_scan, 16}, 6.2, 12.2);
  add({KernelKind::scan_summary, 16}, 3.5, 4.0);
  add({KernelKind::attention, 8}, 0.2, 0.35);
  return machine;
}

struct Pack {
  std::int64_t tokens, documents, channels;
  DType dtype;
};

/// The operators of `causeway bench strategies`.
std::vector<OperatorCall> calls(const Pack& pack, std::int64_t head) {
  const std::int64_t D = pack.channels, G = D / 16;
  const DType wide = accumulator_of(pack.dtype);
  const auto shaped = [&](Shape shape) { return without_data(pack.dtype, shape); };
  const TensorView x = shaped({1, D}), modes = without_data(wide, {D, 16}), heads = shaped({1, D / head, head});
  const GatedConvInputs gated{.q = x, .k = x, .v = x, .skip = {}, .segments = {}},
      plain{.q = {}, .k = {}, .v = x, .skip = {}, .segments = {}};
  CausalConvForward conv;
  conv.x = conv.y = x;
  conv.weight = shaped({D, 4});
  SelectiveScanForward scan;
  scan.in.u = scan.in.delta = scan.in.z = scan.y = x;
  scan.in.B = scan.in.C = shaped({1, 16});
  scan.in.A = without_data(wide, {D, 16});
  return {{"causal_conv", conv},
          {"hyena_se", BlockedConvForward{.in = gated, .halo = {}, .taps = shaped({G, 7}), .y = x}},
          {"hyena_mr", BlockedConvForward{.in = gated, .halo = {}, .taps = shaped({G, 128}), .y = x}},
          {"hyena_li", ModalConvForward{.in = gated, .residues = modes, .log_rates = modes, .y = x}},
          {"long_conv", FftConvForward{.in = plain, .taps = shaped({G, 1024}), .y = x}},
          {"selective_scan", scan},
          {"attention", RotaryAttentionForward{.q = heads, .k = heads, .v = heads, .y = heads}}};
}

std::vector<Estimate> rows_of(const OperatorCall& call, const Pack& pack, const Machine& machine) {
  const Sharding sharding(ShardLayout(pack.tokens, 2, Layout::contiguous),
                          Segments::equal_documents(pack.tokens, pack.documents), 0);
  return estimates(sharding, std::vector{call.arguments}, machine, {});
}

TEST(ChoiceByProfile, TwoH200sTakeTheStrategiesThatWereFastest) {
  const std::map<std::string_view, std::string_view> fastest{
      {"causal_conv", "halo"},     {"hyena_se", "halo"},        {"hyena_mr", "halo"},
      {"hyena_li", "state_carry"}, {"long_conv", "all_to_all"}, {"selective_scan", "state_carry"},
      {"attention", "all_to_all"}};
  for (const std::int64_t tokens : {16384, 65536, 262144, 1 << 20}) {
    const Pack pack{tokens, 1, 4096, DType::bf16};
    for (const OperatorCall& call : calls(pack, 128)) {
      if (call.op == "long_conv" && tokens > 65536) continue;  // not measured: pipelining may pay
      EXPECT_EQ(cheapest(rows_of(call, pack, two_h200s())).strategy, fastest.at(call.op)) << call.op << " " << tokens;
    }
  }
  // Packed documents have so few pairs that attention is communication, of which the ring hides a part.
  const Pack packed{65536, 101, 4096, DType::bf16};
  for (const OperatorCall& call : calls(packed, 128)) {
    if (call.op == "attention" || call.op == "long_conv") continue;
    EXPECT_EQ(cheapest(rows_of(call, packed, two_h200s())).strategy, fastest.at(call.op)) << call.op;
  }
}

TEST(ChoiceByProfile, EstimatesOfTwoH200sResembleWhatWasMeasured) {
  struct Measured {
    std::string_view op, strategy;
    double milliseconds;  ///< forward and backward (parallel/strategies/README.md)
  };
  const Pack pack{65536, 1, 4096, DType::bf16};
  const std::vector<OperatorCall> all = calls(pack, 128);
  for (const Measured& row :
       {Measured{"causal_conv", "halo", 0.80}, Measured{"hyena_se", "halo", 1.31}, Measured{"hyena_mr", "halo", 1.71},
        Measured{"hyena_li", "state_carry", 5.18}, Measured{"hyena_li", "all_to_all", 8.04},
        Measured{"long_conv", "all_to_all", 13.12}, Measured{"selective_scan", "state_carry", 11.03},
        Measured{"attention", "all_to_all", 251.1}, Measured{"hyena_li", "fft", 67.8}}) {
    const OperatorCall& call = *std::ranges::find(all, row.op, &OperatorCall::op);
    const auto rows = rows_of(call, pack, two_h200s());
    const double estimated = std::ranges::find(rows, row.strategy, &Estimate::strategy)->seconds * 1e3;
    EXPECT_GT(estimated, row.milliseconds * 0.8) << row.op << " " << row.strategy;
    EXPECT_LT(estimated, row.milliseconds * 1.2) << row.op << " " << row.strategy;
  }
}

TEST(ChoiceByProfile, ALaptopSendsStatesAndHalosNotSequences) {
  const std::map<std::string_view, std::string_view> fastest{
      {"causal_conv", "halo"},     {"hyena_se", "halo"},        {"hyena_mr", "halo"},
      {"hyena_li", "state_carry"}, {"long_conv", "all_to_all"}, {"selective_scan", "state_carry"},
      {"attention", "all_to_all"}};
  for (const std::int64_t tokens : {4096, 16384}) {
    const Pack pack{tokens, 1, 64, DType::f32};
    for (const OperatorCall& call : calls(pack, 8))
      EXPECT_EQ(cheapest(rows_of(call, pack, laptop())).strategy, fastest.at(call.op)) << call.op << " " << tokens;
  }
}

}  // namespace
}  // namespace causeway::test

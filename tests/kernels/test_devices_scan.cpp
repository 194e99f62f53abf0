#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "kernels/core/integer.hpp"
#include "kernels/selective_scan.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

struct RunCase {
  std::int64_t channels, states, tokens;
  std::vector<std::int64_t> cu_seqlens;  // of the run
  bool gate = true, skip = true, bias = true, softplus = true, carries = true;
  std::int64_t margin = 0;  // columns on both sides of the run's, in wider matrices

  std::string name() const {
    return fmt::format("{} tokens in {} documents [{}, {}], {} channels, {} states{}{}{}{}{}", tokens,
                       cu_seqlens.size() - 1, cu_seqlens.front(), cu_seqlens.back(), channels, states,
                       gate ? ", gate" : "", bias ? ", bias" : "", softplus ? ", softplus" : "",
                       carries ? ", carries" : "", margin > 0 ? fmt::format(", margin {}", margin) : "");
  }
};

/// Numbers of channels below and above those of a warp and of a block, and 4, 16 and 32 states.
RunCase random_run(std::uint64_t seed) {
  RandomChoices choose(seed);
  const RandomRun run = random_run_of_pack(choose, seed);
  return {.channels = choose.chance(70) ? choose.number(1, 70) : choose.number(71, 300),
          .states = choose.chance(50)   ? 16
                    : choose.chance(70) ? choose.number(1, 32)
                                        : choose.number(33, 100),
          .tokens = run.tokens,
          .cu_seqlens = run.cu_seqlens,
          .gate = choose.chance(70),
          .skip = choose.chance(80),
          .bias = choose.chance(70),
          .softplus = choose.chance(80),
          .carries = choose.chance(80),
          .margin = choose.chance(30) ? 3 : 0};
}

Tensors inputs(const Stream& stream, const RunCase& run, DType dtype, std::uint64_t seed) {
  const DType accumulator = accumulator_of(dtype);
  const std::int64_t T = run.tokens, D = run.channels, N = run.states;
  const Shape rows{T, D + 2 * run.margin}, entries{T, N + 2 * run.margin}, matrix{D, N}, vector{D};
  Tensors in;
  in["u"] = random_tensor(stream, dtype, rows, seed);
  // Step sizes of all magnitudes, some above 20, where softplus is the identity.
  in["delta"] = run.softplus ? random_tensor(stream, dtype, rows, seed + 1, -6, 3)
                             : random_tensor(stream, dtype, rows, seed + 1, 0.01, 0.5);
  if (run.softplus && T > 60)
    assign(in["delta"].view().slice_rows(33, 1), std::vector<double>(static_cast<std::size_t>(rows[1]), 21.5));
  if (run.gate) in["z"] = random_tensor(stream, dtype, rows, seed + 2, -3, 3);
  in["A"] = random_tensor(stream, accumulator, matrix, seed + 3, -2, -0.01);
  in["B"] = random_tensor(stream, dtype, entries, seed + 4);
  in["C"] = random_tensor(stream, dtype, entries, seed + 5);
  if (run.skip) in["D"] = random_tensor(stream, accumulator, vector, seed + 6);
  if (run.bias) in["delta_bias"] = random_tensor(stream, accumulator, vector, seed + 7, 0, 0.5);
  in["d_y"] = random_tensor(stream, dtype, rows, seed + 8);
  if (run.carries)
    for (const char* name : {"state_in", "adjoint_in"}) in[name] = random_tensor(stream, accumulator, matrix, seed + 9);
  // Values that are overwritten, or sums that are added to.
  for (const char* name : {"y", "d_u", "d_delta", "d_z"}) in[name] = random_tensor(stream, dtype, rows, seed + 10);
  for (const char* name : {"d_B", "d_C"}) in[name] = random_tensor(stream, dtype, entries, seed + 11);
  for (const char* name : {"d_A", "summary", "adjoint", "carry", "state_out", "adjoint_out"})
    in[name] = random_tensor(stream, accumulator, matrix, seed + 12);
  for (const char* name : {"d_D", "d_delta_bias", "tail_steps", "head_steps"})
    in[name] = random_tensor(stream, accumulator, vector, seed + 13);
  return in;
}

const char* const results[] = {"y",          "d_u",   "d_delta",      "d_z",        "d_B",        "d_C",
                               "d_A",        "d_D",   "d_delta_bias", "summary",    "tail_steps", "adjoint",
                               "head_steps", "carry", "state_out",    "adjoint_out"};

/// Runs all five kernels.
void execute(const Stream& stream, const RunCase& run, const Tensors& all, SegmentsView segments) {
  const auto columns = [&](const char* name, std::int64_t count) {
    return view(all, name).present() ? view(all, name).slice_columns(run.margin, count) : TensorView{};
  };
  const auto channels = [&](const char* name) { return columns(name, run.channels); };
  const auto states = [&](const char* name) { return columns(name, run.states); };
  const SelectiveScanInputs in{.u = channels("u"),
                               .delta = channels("delta"),
                               .z = channels("z"),
                               .A = view(all, "A"),
                               .B = states("B"),
                               .C = states("C"),
                               .D = view(all, "D"),
                               .delta_bias = view(all, "delta_bias"),
                               .delta_softplus = run.softplus,
                               .segments = segments};
  const Tensor saved(stream, view(all, "A").dtype,
                     {ceil_div(run.tokens, selective_scan_block), run.channels, run.states});
  // Where no document continues, the results are undefined: none are asked for.
  const TensorView state_out = run.cu_seqlens.back() > run.tokens ? view(all, "state_out") : TensorView{},
                   adjoint_out = run.cu_seqlens.front() < 0 ? view(all, "adjoint_out") : TensorView{};
  selective_scan_forward(
      stream,
      {.in = in, .state_in = view(all, "state_in"), .y = channels("y"), .states = saved, .state_out = state_out});
  selective_scan_backward(stream, {.in = in,
                                   .states = saved,
                                   .adjoint_in = view(all, "adjoint_in"),
                                   .d_y = channels("d_y"),
                                   .d_u = channels("d_u"),
                                   .d_delta = channels("d_delta"),
                                   .d_B = states("d_B"),
                                   .d_C = states("d_C"),
                                   .d_z = run.gate ? channels("d_z") : TensorView{},
                                   .d_A = view(all, "d_A"),
                                   .d_D = run.skip ? view(all, "d_D") : TensorView{},
                                   .d_delta_bias = run.bias ? view(all, "d_delta_bias") : TensorView{},
                                   .adjoint_out = adjoint_out});
  selective_scan_summary(stream, {.in = in, .state = view(all, "summary"), .sum_delta = view(all, "tail_steps")});
  selective_scan_adjoint_summary(
      stream,
      {.in = in, .d_y = channels("d_y"), .adjoint = view(all, "adjoint"), .sum_delta = view(all, "head_steps")});
  selective_scan_fold(stream, {.A = in.A,
                               .summary_state = view(all, "summary"),
                               .sum_delta = view(all, "tail_steps"),
                               .carry = view(all, "carry")});
}

class DevicesScan : public GpuCaseTest<RunCase> {
 protected:
  void expect_equal_to_the_cpu(const RunCase& run, std::uint64_t seed) const {
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, run.name()));
    const double limit = GetParam() == DType::f64 ? 1e-11 : GetParam() == DType::f32 ? 1e-5 : 4e-3;
    const Tensors in = inputs(cpu(), run, GetParam(), seed);
    if (GetParam() == DType::bf16) expect_exact_sums_over_channels(run, in, limit);
    // Two roundings to bf16 of nearly the same sum may give neighbours. If one value is most of the norm, that is 2^-7.
    expect_as_on_the_cpu(run, in, results, [&](std::string_view name) {
      return GetParam() == DType::bf16 && (name == "d_B" || name == "d_C") ? 0x1p-7 : limit;
    });
  }

 private:
  /// d_B and d_C of the GPU, whose sums over channels are in tf32, against float64 on the same values.
  void expect_exact_sums_over_channels(const RunCase& run, const Tensors& in, double limit) const {
    const Tensors got = on_gpu(run, in);
    Tensors exact;
    for (const auto& [name, tensor] : in)
      if (tensor.view().present()) exact[name] = converted(cpu(), tensor, DType::f64);
    execute(cpu(), run, exact, segments_view(run.cu_seqlens, run.tokens));
    for (const char* name : {"d_B", "d_C"}) expect_close(view(got, name), view(exact, name), limit, name);
  }
};

TEST_P(DevicesScan, SelectiveScanEqualsTheCpuOnRandomRuns) {
  for (std::uint64_t seed = 0; seed < cases(250); ++seed) expect_equal_to_the_cpu(random_run(seed), seed);
}

/// Documents of 1 to 2998 tokens; the first began before the run.
RunCase documents_of_many_lengths(std::int64_t channels, std::int64_t states, std::int64_t tokens) {
  RunCase run{.channels = channels, .states = states, .tokens = tokens, .cu_seqlens = {-3}};
  for (std::int64_t length = 1; run.cu_seqlens.back() < run.tokens; length = length * 3 % 2999)
    run.cu_seqlens.push_back(run.cu_seqlens.back() + length);
  return run;
}

TEST_P(DevicesScan, SelectiveScanEqualsTheCpuWhereChunksAreLongAndChannelsMany) {
  if (GetParam() != DType::f64) expect_equal_to_the_cpu(documents_of_many_lengths(1104, 16, 33000), 1);
}

/// Documents of one token; then documents whose first tokens are at all places of 64 tokens.
RunCase documents_at_every_place(std::int64_t channels, std::int64_t states) {
  std::vector<std::int64_t> cu_seqlens{-9};
  for (std::int64_t t = 1; t < 70; ++t) cu_seqlens.push_back(t);
  for (std::int64_t length = 40; cu_seqlens.back() < 500; length = length * 7 % 61 + 3)
    cu_seqlens.push_back(cu_seqlens.back() + length);
  return {
      .channels = channels, .states = states, .tokens = cu_seqlens.back() - 4, .cu_seqlens = cu_seqlens, .margin = 8};
}

/// A run within one document, without gate, skip, bias and softplus.
RunCase plain_run(std::int64_t channels, std::int64_t states, std::int64_t tokens) {
  return {.channels = channels,
          .states = states,
          .tokens = tokens,
          .cu_seqlens = {-2, tokens + 2},
          .gate = false,
          .skip = false,
          .bias = false,
          .softplus = false};
}

TEST_P(DevicesScan, SelectiveScanEqualsTheCpuWhereOneBlockOfThreadsHasAllTokensOfManyChannels) {
  for (const auto& [channels, states] : {std::pair{2032, 16}, std::pair{4096, 8}, std::pair{5120, 16}})
    expect_equal_to_the_cpu(documents_at_every_place(channels, states), 1);
  for (const std::int64_t tokens : {1, 31, 32, 33, 95}) expect_equal_to_the_cpu(plain_run(2056, 16, tokens), 2);
}

TEST_P(DevicesScan, SelectiveScanEqualsTheCpuWhereOneBlockOfThreadsHasAllTokensOfMoreThan16States) {
  if (GetParam() != DType::bf16) GTEST_SKIP() << "the others are computed in chunks";
  for (const auto& [channels, states] :
       {std::pair{2152, 64}, std::pair{1520, 48}, std::pair{2144, 40}, std::pair{2312, 32}, std::pair{1912, 24},
        std::pair{520, 17}, std::pair{520, 33}})
    expect_equal_to_the_cpu(documents_at_every_place(channels, states), 1);
  for (const std::int64_t channels : {2144, 1520})
    for (const std::int64_t tokens : {1, 15, 17, 33, 95}) expect_equal_to_the_cpu(plain_run(channels, 64, tokens), 2);
}

TEST_P(DevicesScan, SelectiveScanEqualsTheCpuWhereBlocksOfThreadsDivideTheTokens) {
  for (const auto& [channels, states, tokens] :
       {std::tuple{1024, 16, 16500}, std::tuple{512, 64, 2600}, std::tuple{512, 32, 2600}}) {
    if (GetParam() == DType::bf16 || (GetParam() == DType::f32 && states == 16))
      expect_equal_to_the_cpu(documents_of_many_lengths(channels, states, tokens), 1);
  }
}

/// 1024 channels of bf16 are divided into several pieces: at documents' starts, if there are some near.
TEST_P(DevicesScan, SelectiveScanEqualsTheCpuWherePiecesBeginAtAnyToken) {
  if (GetParam() != DType::bf16) GTEST_SKIP() << "the others are computed in chunks";
  for (std::int64_t t = 0; t < 32; ++t)
    expect_equal_to_the_cpu({.channels = 1024,
                             .states = t % 4 == 3 ? 64 : 16,
                             .tokens = 260,
                             .cu_seqlens = {-5, 50 + t, 51 + t, 110 + t, 111 + t, 112 + t, 180 + t, 265},
                             .margin = t % 2 * 8},
                            static_cast<std::uint64_t>(t));
}

TEST_P(DevicesScan, SelectiveScanEqualsTheCpuWhereADocumentHasSeveralPieces) {
  if (GetParam() != DType::bf16) GTEST_SKIP() << "the others are computed in chunks";
  const std::vector<std::int64_t> documents[] = {
      {-3, 3501}, {0, 3400}, {-70, 1, 3350, 3400}, {0, 40, 75, 3398, 3399, 3405}, {-1, 700, 2900, 3450}};
  for (const auto& cu_seqlens : documents)
    expect_equal_to_the_cpu({.channels = 1024, .states = 16, .tokens = 3400, .cu_seqlens = cu_seqlens}, 3);
}

TEST_P(DevicesScan, SelectiveScanEqualsTheCpuInWholeBlocksOfChannels) {
  for (std::uint64_t seed = 0; seed < cases(60); ++seed) {
    RunCase run = random_run(1000 + seed);
    run.channels = std::int64_t{16} << seed % 5;
    run.states = 16;
    run.softplus = true;
    run.margin = seed % 2 == 0 ? 0 : 8;
    expect_equal_to_the_cpu(run, seed);
  }
}

TEST_P(DevicesScan, SelectiveScanOfManyStatesAddsGroupsOfStates) {
  for (const std::int64_t states : {33, 64, 100})
    expect_equal_to_the_cpu({.channels = 70, .states = states, .tokens = 700, .cu_seqlens = {-9, 62, 450, 701}}, 1);
}

TEST_P(DevicesScan, SelectiveScanKeepsNonFiniteValuesInTheirDocument) {
  for (const auto& [channels, states] : {std::pair{37, 16}, std::pair{37, 40}, std::pair{48, 16}, std::pair{1024, 16},
                                         std::pair{4096, 16}, std::pair{2144, 64}})
    for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()})
      for (const char* where : {"u", "delta", "z", "B", "C", "d_y"}) {
        const RunCase run{.channels = channels, .states = states, .tokens = 200, .cu_seqlens = {-9, 62, 150, 201}};
        const Tensors in = inputs(cpu(), run, GetParam(), 1);
        const Tensors clean = on_gpu(run, in);
        const TensorView target = view(in, where);
        for (const std::int64_t t : {62, 100, 149})
          assign(target.slice_rows(t, 1), std::vector<double>(static_cast<std::size_t>(target.columns()), poison));
        const Tensors out = on_gpu(run, in);
        for (const char* name : {"y", "d_u", "d_delta", "d_z", "d_B", "d_C"})
          for (const auto& [from, count] : {std::pair{0, 62}, std::pair{150, 50}})
            EXPECT_TRUE(same_bits(view(out, name).slice_rows(from, count), view(clean, name).slice_rows(from, count)))
                << poison << " in " << where << ", " << name;
        for (const char* name : {"summary", "tail_steps", "adjoint", "head_steps", "state_out", "adjoint_out"})
          EXPECT_TRUE(same_bits(view(out, name), view(clean, name))) << poison << " in " << where << ", " << name;
      }
}

/// The parts of d_B and d_C that blocks of threads write have 14 bits of each number and an exponent.
TEST_P(DevicesScan, SelectiveScanGradientsScaleWithPowersOfTwo) {
  if (GetParam() == DType::f64) GTEST_SKIP() << "no parts with exponents";
  const RunCase run{
      .channels = 4096, .states = 16, .tokens = 200, .cu_seqlens = {0, 61, 150, 200}, .carries = false, .margin = 8};
  const Tensors in = inputs(cpu(), run, GetParam(), 4), plain = on_gpu(run, in);
  const std::vector<double> d_y = values_of(view(in, "d_y"));
  for (const int power : {-80, -64, -31, -2, -1, 1, 2, 5, 24, 63, 80}) {
    std::vector<double> scaled = d_y;
    for (double& value : scaled) value = std::ldexp(value, power);
    assign(view(in, "d_y"), scaled);
    const Tensors out = on_gpu(run, in);
    for (const char* name : {"d_B", "d_C"}) {
      const auto part = [&](const Tensors& from) {
        return values_of(view(from, name).slice_columns(run.margin, run.states));
      };
      std::vector<double> expected = part(plain);
      for (double& value : expected) value = std::ldexp(value, power);
      EXPECT_EQ(part(out), expected) << name << " at 2^" << power;
    }
  }
}

/// Where one block of threads has all tokens of its channels.
TEST_P(DevicesScan, SelectiveScanOfAPackHasTheBitsOfItsDocumentsAlone) {
  if (GetParam() != DType::bf16) GTEST_SKIP() << "the others are computed in chunks";
  for (const auto& [channels, states] : {std::pair{2144, 64}, std::pair{2304, 32}, std::pair{4096, 16}}) {
    const RunCase pack{
        .channels = channels, .states = states, .tokens = 200, .cu_seqlens = {0, 61, 150, 200}, .carries = false};
    const Tensors in = inputs(cpu(), pack, GetParam(), 3), packed = on_gpu(pack, in);
    for (std::size_t s = 0; s + 1 < pack.cu_seqlens.size(); ++s) {
      const std::int64_t from = pack.cu_seqlens[s], count = pack.cu_seqlens[s + 1] - from;
      RunCase document = pack;
      document.tokens = count;
      document.cu_seqlens = {0, count};
      Tensors its;
      for (const auto& [name, tensor] : in) {
        const TensorView x = tensor.view();
        its[name] = converted(cpu(), x.dtype == GetParam() ? x.slice_rows(from, count) : x, x.dtype);
      }
      EXPECT_TRUE(same_bits(view(on_gpu(document, its), "y"), view(packed, "y").slice_rows(from, count)))
          << document.name() << " at token " << from;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesScan, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

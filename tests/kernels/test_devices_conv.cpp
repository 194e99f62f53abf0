#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/causal_conv.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

struct RunCase {
  std::int64_t channels, taps, tokens;
  std::vector<std::int64_t> cu_seqlens;  // of the run
  Activation activation;
  bool bias, wide;  // wide: x, y and their gradients are columns of wider matrices

  std::string name() const {
    return fmt::format("{} tokens in {} documents from {} on, {} channels, {} taps, {}{}", tokens,
                       cu_seqlens.size() - 1, cu_seqlens[0], channels, taps, name_of(activation), wide ? ", wide" : "");
  }
};

/// Sizes below and above a warp, a strip and a block, at random places of a pack.
RunCase random_run(std::uint64_t seed) {
  RandomChoices choose(seed);
  const std::int64_t pack = choose.chance(50) ? choose.number(1, 40) : choose.number(41, 700);
  std::int64_t begin = choose.chance(50) ? 0 : choose.number(0, pack - 1),
               end = choose.chance(50) ? pack : choose.number(begin, pack);
  const Segments segments = random_segments(pack, seed);
  const std::int64_t channels = choose.chance(50) ? 8 * choose.number(1, 70) : choose.number(1, 300);
  return {.channels = channels,
          .taps = choose.chance(60)   ? choose.number(2, 4)
                  : choose.chance(60) ? choose.number(1, 16)
                                      : choose.number(17, 140),
          .tokens = end - begin,
          .cu_seqlens = segments.slice(begin, end),
          .activation = choose.chance(70) ? Activation::silu : Activation::none,
          .bias = choose.chance(70),
          .wide = choose.chance(30)};
}

Tensors inputs(const Stream& stream, const RunCase& run, DType dtype, std::uint64_t seed) {
  const DType accumulator = accumulator_of(dtype);
  const std::int64_t width = run.channels + (run.wide ? 5 : 0);
  Tensors in;
  in["x"] = random_tensor(stream, dtype, {run.tokens, width}, seed);
  in["weight"] = random_tensor(stream, dtype, {run.channels, run.taps}, seed + 1);
  if (run.bias) in["bias"] = random_tensor(stream, dtype, {run.channels}, seed + 2);
  in["d_y"] = random_tensor(stream, dtype, {run.tokens, width}, seed + 3);
  for (const char* name : {"y", "d_x"})
    in[name] = random_tensor(stream, dtype, {run.tokens, width}, seed + 4);  // values that are overwritten
  in["d_weight"] = random_tensor(stream, accumulator, {run.channels, run.taps}, seed + 5);
  if (run.bias) in["d_bias"] = random_tensor(stream, accumulator, {run.channels}, seed + 6);
  if (run.cu_seqlens[0] < 0) {
    // Rows before the first document are NaN: reading them would change results.
    std::vector<double> halo = values_of(random_tensor(stream, dtype, {run.taps - 1, run.channels}, seed + 7));
    for (std::int64_t t = 1 - run.taps; t < std::min<std::int64_t>(0, run.cu_seqlens[0]); ++t)
      std::fill_n(halo.begin() + (run.taps - 1 + t) * run.channels, run.channels, std::nan(""));
    in["halo"] = tensor_of(stream, dtype, {run.taps - 1, run.channels}, halo);
    in["d_halo"] = random_tensor(stream, dtype, {run.taps - 1, run.channels}, seed + 8);
  }
  return in;
}

/// Runs forward and backward; writes y, d_x, d_halo, d_weight and d_bias.
void execute(const Stream& stream, const RunCase& run, const Tensors& all, SegmentsView segments) {
  const auto columns = [&](const char* name) { return view(all, name).slice_columns(run.wide ? 3 : 0, run.channels); };
  causal_conv_forward(stream, {.x = columns("x"),
                               .halo = view(all, "halo"),
                               .weight = view(all, "weight"),
                               .bias = view(all, "bias"),
                               .segments = segments,
                               .activation = run.activation,
                               .y = columns("y")});
  causal_conv_backward(stream, {.x = columns("x"),
                                .halo = view(all, "halo"),
                                .weight = view(all, "weight"),
                                .bias = view(all, "bias"),
                                .segments = segments,
                                .activation = run.activation,
                                .d_y = columns("d_y"),
                                .d_x = columns("d_x"),
                                .d_halo = view(all, "d_halo"),
                                .d_weight = view(all, "d_weight"),
                                .d_bias = view(all, "d_bias")});
}

class DevicesConv : public GpuCaseTest<RunCase> {
 protected:
  void expect_equal_to_the_cpu(const RunCase& run, std::uint64_t seed) const {
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, run.name()));
    const double limit = GetParam() == DType::f64 ? 1e-13 : GetParam() == DType::f32 ? 2e-6 : 4e-3;
    constexpr const char* results[] = {"y", "d_x", "d_halo", "d_weight", "d_bias"};
    expect_as_on_the_cpu(run, inputs(cpu(), run, GetParam(), seed), results, [&](std::string_view) { return limit; });
  }
};

TEST_P(DevicesConv, CausalConvEqualsTheCpuOnRandomRuns) {
  for (std::uint64_t seed = 0; seed < cases(300); ++seed) expect_equal_to_the_cpu(random_run(seed), seed);
}

TEST_P(DevicesConv, CausalConvOfManyTapsEqualsTheCpu) {
  for (const std::int64_t taps : {16, 17, 30, 130})
    for (const Activation activation : {Activation::none, Activation::silu})
      expect_equal_to_the_cpu({.channels = 70,
                               .taps = taps,
                               .tokens = 1500,
                               .cu_seqlens = {-50, 3, 8, 500, 1501},
                               .activation = activation,
                               .bias = true,
                               .wide = false},
                              1);
}

TEST_P(DevicesConv, CausalConvKeepsNonFiniteValuesInTheirDocument) {
  for (const auto& [channels, taps] : {std::pair{19, 4}, {64, 4}, {19, 30}})
    for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()})
      for (const char* where : {"x", "d_y"}) {
        const RunCase run{.channels = channels,
                          .taps = taps,
                          .tokens = 90,
                          .cu_seqlens = {0, 30, 61, 90},
                          .activation = Activation::silu,
                          .bias = true,
                          .wide = false};
        const Tensors in = inputs(cpu(), run, GetParam(), 1);
        const Tensors clean = on_gpu(run, in);
        for (const std::int64_t t : {30, 45, 60})
          assign(view(in, where).slice_rows(t, 1), std::vector<double>(static_cast<std::size_t>(channels), poison));
        const Tensors out = on_gpu(run, in);
        for (const char* name : {"y", "d_x"})
          for (const auto& [from, count] : {std::pair{0, 30}, std::pair{61, 29}})
            EXPECT_TRUE(same_bits(view(out, name).slice_rows(from, count), view(clean, name).slice_rows(from, count)))
                << poison << " in " << where << ", " << name;
      }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesConv, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>

#include "kernels/causal_conv.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

struct RunCase {
  std::int64_t channels, taps, tokens;
  std::vector<std::int64_t> cu_seqlens;  // of the run
  Activation activation;
  bool bias, wide;         // wide: x, y and their gradients are columns of wider matrices
  std::int64_t inner = 0;  // of the product that is added to d_y; 0: no product

  std::string name() const {
    return fmt::format("{} tokens in {} documents from {} on, {} channels, {} taps, {}{}, product over {}", tokens,
                       cu_seqlens.size() - 1, cu_seqlens[0], channels, taps, name_of(activation), wide ? ", wide" : "",
                       inner);
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
          .wide = choose.chance(30),
          .inner = choose.chance(30) ? choose.number(1, 40) : 0};
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
  if (run.inner > 0) {
    in["a"] = random_tensor(stream, dtype, {run.tokens, run.inner}, seed + 9, -0.3, 0.3);
    in["b"] = random_tensor(stream, dtype, {run.inner, run.channels}, seed + 10);
  }
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
                                .d_y_product = {.a = view(all, "a"), .b = view(all, "b")},
                                .d_x = columns("d_x"),
                                .d_halo = view(all, "d_halo"),
                                .d_weight = view(all, "d_weight"),
                                .d_bias = view(all, "d_bias")});
}

class DevicesConv : public GpuCaseTest<RunCase> {
 protected:
  void expect_equal_to_the_cpu(const RunCase& run, std::uint64_t seed) const {
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, run.name()));
    // The product's sum is rounded to bf16 on the CPU, which changes small tensors by more than one rounding.
    const double bf16 = run.inner > 0 ? 1e-2 : 4e-3;
    const double limit = GetParam() == DType::f64 ? 1e-13 : GetParam() == DType::f32 ? 2e-6 : bf16;
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

/// Runs for which a GPU of compute capability 9.0 adds the product in the kernel of the backward: silu, four taps,
/// whole packs, a multiple of 128 channels. Strips and blocks of tokens end before, at and after documents.
RunCase run_with_product(std::int64_t tokens, std::int64_t channels, std::int64_t inner,
                         std::vector<std::int64_t> cu_seqlens) {
  return {.channels = channels,
          .taps = 4,
          .tokens = tokens,
          .cu_seqlens = std::move(cu_seqlens),
          .activation = Activation::silu,
          .bias = tokens % 2 == 1,
          .wide = false,
          .inner = inner};
}

std::vector<RunCase> runs_with_product() {
  std::vector<RunCase> runs;
  for (const std::int64_t tokens : {1, 2, 3, 4, 20, 21, 22, 83, 84, 85, 244, 500, 501, 1029})
    for (const std::int64_t inner : {8, 80, 96, 160, 168, 192})
      runs.push_back(
          run_with_product(tokens, inner == 96 ? 384 : 128, inner,
                           random_segments(tokens, static_cast<std::uint64_t>(tokens + inner)).slice(0, tokens)));
  std::vector<std::int64_t> single(301), whole{0, 3000}, short_ones;
  std::iota(single.begin(), single.end(), 0);
  for (std::int64_t at = 0, length = 0; at < 900; at += length) short_ones.push_back(at), length = length % 7 + 1;
  short_ones.push_back(900);
  runs.push_back(run_with_product(300, 128, 160, single));
  runs.push_back(run_with_product(3000, 256, 160, whole));
  runs.push_back(run_with_product(900, 128, 80, short_ones));
  return runs;
}

TEST_P(DevicesConv, CausalConvWithAProductIsAsExactAsItsRounding) {
  for (const RunCase& run : runs_with_product()) {
    SCOPED_TRACE(run.name());
    const Tensors in = inputs(cpu(), run, GetParam(), 5), got = on_gpu(run, in), again = on_gpu(run, in);
    Tensors exact;
    for (const auto& [name, tensor] : in) exact[name] = converted(cpu(), tensor, DType::f64);
    execute(cpu(), run, exact, segments_view(run.cu_seqlens, run.tokens));
    const double of_sums = GetParam() == DType::f64 ? 1e-13 : 2e-6;
    for (const char* name : {"d_x", "d_weight", "d_bias"}) {
      if (!view(in, name).present()) continue;
      const bool rounded = GetParam() == DType::bf16 && name == std::string_view("d_x");
      expect_close(view(got, name), view(exact, name), rounded ? 2e-3 : of_sums, name);
      EXPECT_TRUE(same_bits(view(got, name), view(again, name))) << name << " differs from call to call";
    }
  }
}

TEST_P(DevicesConv, APackWithAProductHasTheBitsOfItsDocumentsAlone) {
  if (GetParam() != DType::bf16) GTEST_SKIP() << "in other types a matrix product of the pack, whose bits may differ";
  const RunCase pack = run_with_product(901, 128, 160, {0, 1, 3, 200, 207, 500, 901});
  const Tensors in = inputs(cpu(), pack, GetParam(), 6), all = on_gpu(pack, in);
  for (std::size_t s = 0; s + 1 < pack.cu_seqlens.size(); ++s) {
    const std::int64_t begin = pack.cu_seqlens[s], tokens = pack.cu_seqlens[s + 1] - begin;
    RunCase alone = run_with_product(tokens, pack.channels, pack.inner, {0, tokens});
    alone.bias = pack.bias;
    Tensors part;
    for (const auto& [name, tensor] : in) {
      const bool of_tokens = tensor.view().rows() == pack.tokens;
      part[name] =
          converted(cpu(), of_tokens ? tensor.view().slice_rows(begin, tokens) : tensor.view(), tensor.view().dtype);
    }
    EXPECT_TRUE(same_bits(view(on_gpu(alone, part), "d_x"), view(all, "d_x").slice_rows(begin, tokens))) << s;
  }
}

TEST_P(DevicesConv, AProductKeepsNonFiniteValuesInTheirDocument) {
  const RunCase run = run_with_product(901, 128, 160, {0, 1, 3, 200, 207, 500, 901});
  const Tensors in = inputs(cpu(), run, GetParam(), 7), clean = on_gpu(run, in);
  for (const char* where : {"x", "d_y", "a"})
    for (const std::int64_t t : {200, 206}) {
      Tensors poisoned;
      for (const auto& [name, tensor] : in) poisoned[name] = converted(cpu(), tensor, tensor.view().dtype);
      const TensorView row = view(poisoned, where).slice_rows(t, 1);
      assign(row, std::vector<double>(static_cast<std::size_t>(row.columns()), std::nan("")));
      const Tensors out = on_gpu(run, poisoned);
      for (const auto& [from, count] : {std::pair{0, 200}, std::pair{207, 694}})
        EXPECT_TRUE(same_bits(view(out, "d_x").slice_rows(from, count), view(clean, "d_x").slice_rows(from, count)))
            << where << " " << t;
    }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesConv, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

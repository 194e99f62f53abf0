#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/blocked_conv.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

struct RunCase {
  std::int64_t groups, group_size, taps, tokens;
  std::vector<std::int64_t> cu_seqlens;  // of the run
  bool q = true, k = true, skip = true;
  bool wide_parameters = false;      // taps and skip in the accumulator type
  bool halo = true;                  // if a document reaches back, there is a halo in any case
  std::int64_t left = 0, right = 0;  // columns to the left and right of the channels

  std::int64_t channels() const { return groups * group_size; }
  std::string name() const {
    return fmt::format(
        "{} tokens in {} documents [{}, {}], {} groups of {} channels, {} taps{}{}{}{}{}, {} and {} columns beside",
        tokens, cu_seqlens.size() - 1, cu_seqlens.front(), cu_seqlens.back(), groups, group_size, taps, q ? ", q" : "",
        k ? ", k" : "", skip ? ", skip" : "", wide_parameters ? ", wide parameters" : "", halo ? ", halo" : "", left,
        right);
  }
};

/// Half of the runs fit tensor cores.
RunCase random_run(std::uint64_t seed) {
  RandomChoices choose(seed);
  const RandomRun run = random_run_of_pack(choose, seed);
  const bool tiles = choose.chance(60);
  const std::int64_t reaches[] = {1, 2, 3, 4, 7, 16, 17, 18, 33, 64, 65, 127, 128, 129};
  return {.groups = choose.number(1, 6),
          .group_size = tiles ? 16 * choose.number(1, 3) : choose.number(1, 40),
          .taps = choose.chance(70) ? reaches[choose.number(0, 13)] : choose.number(1, 300),
          .tokens = run.tokens,
          .cu_seqlens = run.cu_seqlens,
          .q = choose.chance(70),
          .k = choose.chance(70),
          .skip = choose.chance(70),
          .wide_parameters = choose.chance(50),
          .halo = choose.chance(50),
          .left = choose.chance(60) ? 0
                  : tiles           ? 8 * choose.number(0, 3)
                                    : choose.number(0, 5),
          .right = choose.chance(60) ? 0
                   : tiles           ? 8 * choose.number(0, 3)
                                     : choose.number(0, 5)};
}

Tensors inputs(const Stream& stream, const RunCase& run, DType dtype, std::uint64_t seed) {
  const DType accumulator = accumulator_of(dtype), parameters = run.wide_parameters ? accumulator : dtype;
  const std::int64_t D = run.channels();
  const Shape rows{run.tokens, run.left + D + run.right};
  Tensors in;
  if (run.q) in["q"] = random_tensor(stream, dtype, rows, seed);
  if (run.k) in["k"] = random_tensor(stream, dtype, rows, seed + 1);
  in["v"] = random_tensor(stream, dtype, rows, seed + 2);
  if (run.skip) in["skip"] = random_tensor(stream, parameters, {D}, seed + 3);
  in["taps"] = random_tensor(stream, parameters, {run.groups, run.taps}, seed + 4);
  in["d_y"] = random_tensor(stream, dtype, rows, seed + 5);
  for (const char* name : {"y", "d_q", "d_k", "d_v"})
    in[name] = random_tensor(stream, dtype, rows, seed + 6);  // values that are overwritten
  in["d_taps"] = random_tensor(stream, accumulator, {run.groups, run.taps}, seed + 7);
  in["d_skip"] = random_tensor(stream, accumulator, {D}, seed + 8);
  if (run.taps > 1 && (run.halo || run.cu_seqlens[0] < 0)) {
    // Rows before the first document are NaN: reading them would change results.
    std::vector<double> halo = values_of(random_tensor(stream, dtype, {run.taps - 1, D}, seed + 9));
    const std::int64_t unused = std::clamp<std::int64_t>(run.taps - 1 + run.cu_seqlens[0], 0, run.taps - 1);
    std::fill_n(halo.begin(), unused * D, std::nan(""));
    in["halo"] = tensor_of(stream, dtype, {run.taps - 1, D}, halo);
    in["d_halo"] = random_tensor(stream, dtype, {run.taps - 1, D}, seed + 10);
  }
  return in;
}

const char* const results[] = {"y", "d_q", "d_k", "d_v", "d_skip", "d_taps", "d_halo"};

/// Runs forward and backward.
void execute(const Stream& stream, const RunCase& run, const Tensors& all, SegmentsView segments) {
  const auto columns = [&](const char* name) {
    return view(all, name).present() ? view(all, name).slice_columns(run.left, run.channels()) : TensorView{};
  };
  const GatedConvInputs in{
      .q = columns("q"), .k = columns("k"), .v = columns("v"), .skip = view(all, "skip"), .segments = segments};
  blocked_conv_forward(stream, {.in = in, .halo = view(all, "halo"), .taps = view(all, "taps"), .y = columns("y")});
  blocked_conv_backward(stream, {.in = in,
                                 .halo = view(all, "halo"),
                                 .taps = view(all, "taps"),
                                 .gradients = {.d_y = columns("d_y"),
                                               .d_q = run.q ? columns("d_q") : TensorView{},
                                               .d_k = run.k ? columns("d_k") : TensorView{},
                                               .d_v = columns("d_v"),
                                               .d_skip = run.skip ? view(all, "d_skip") : TensorView{}},
                                 .d_halo = view(all, "d_halo"),
                                 .d_taps = view(all, "d_taps")});
}

class DevicesBlockedConv : public GpuCaseTest<RunCase> {
 protected:
  void expect_equal_to_the_cpu(const RunCase& run, std::uint64_t seed) const {
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, run.name()));
    // In bf16 a filter's gradient is a long sum of products of rounded factors, and terms may cancel.
    const auto limit_of = [](const std::string& name) {
      const bool sum = name == "d_taps" || name == "d_skip";
      return GetParam() == DType::f64 ? 1e-13 : GetParam() == DType::f32 ? 1e-6 : sum ? 2e-2 : 5e-3;
    };
    expect_as_on_the_cpu(run, inputs(cpu(), run, GetParam(), seed), results, limit_of);
  }
};

TEST_P(DevicesBlockedConv, EqualsTheCpuOnRandomRuns) {
  for (std::uint64_t seed = 0; seed < cases(400) && !HasFailure(); ++seed)
    expect_equal_to_the_cpu(random_run(seed), seed);
}

TEST_P(DevicesBlockedConv, EqualsTheCpuOnLongRuns) {
  std::vector<std::int64_t> uneven{-200, 3};
  for (std::int64_t length = 1; uneven.back() < 4990; length = length * 5 % 1013 + 1)
    uneven.push_back(uneven.back() + length);
  for (const std::int64_t taps : {7, 128}) {
    expect_equal_to_the_cpu({.groups = 3, .group_size = 32, .taps = taps, .tokens = 4990, .cu_seqlens = uneven}, 1);
    expect_equal_to_the_cpu({.groups = 2, .group_size = 16, .taps = taps, .tokens = 4990, .cu_seqlens = {-1, 5000}}, 2);
    expect_equal_to_the_cpu({.groups = 5, .group_size = 3, .taps = taps, .tokens = 4990, .cu_seqlens = uneven}, 3);
    // A document that begins with the run: a GPU may take the kernels of hyena_block.
    expect_equal_to_the_cpu(
        {.groups = 8, .group_size = 15, .taps = taps, .tokens = 2990, .cu_seqlens = {0, 700, 3000}, .halo = false}, 4);
    expect_equal_to_the_cpu(
        {.groups = 3, .group_size = 16, .taps = taps, .tokens = 2990, .cu_seqlens = {0, 9, 3000}, .halo = false}, 5);
  }
  expect_equal_to_the_cpu({.groups = 2, .group_size = 1, .taps = 1500, .tokens = 1500, .cu_seqlens = {0, 1300, 1500}},
                          4);
}

TEST_P(DevicesBlockedConv, AcceptsDocumentsOfOneTokenAndDocumentsThatEndWithATile) {
  for (const std::int64_t taps : {7, 128})
    for (const std::int64_t length : {1, 2, 15, 16, 17, 64}) {
      std::vector<std::int64_t> cu_seqlens{0};
      while (cu_seqlens.back() < 260) cu_seqlens.push_back(cu_seqlens.back() + length);
      expect_equal_to_the_cpu({.groups = 2, .group_size = 16, .taps = taps, .tokens = 260, .cu_seqlens = cu_seqlens},
                              1);
    }
}

TEST_P(DevicesBlockedConv, KeepsNonFiniteValuesInTheirDocument) {
  for (const std::int64_t taps : {7, 128})
    for (const std::int64_t group_size : {5, 16})
      for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()})
        for (const char* where : {"q", "k", "v", "d_y"}) {
          const RunCase run{.groups = 2,
                            .group_size = group_size,
                            .taps = taps,
                            .tokens = 260,
                            .cu_seqlens = {-9, 62, 150, 176, 261}};
          const Tensors in = inputs(cpu(), run, GetParam(), 1);
          const Tensors clean = on_gpu(run, in);
          const TensorView target = view(in, where);
          for (const std::int64_t t : {62, 100, 149, 176, 259})
            assign(target.slice_rows(t, 1), std::vector<double>(static_cast<std::size_t>(target.columns()), poison));
          const Tensors out = on_gpu(run, in);
          for (const char* name : {"y", "d_q", "d_k", "d_v"})
            for (const auto& [from, count] : {std::pair{0, 62}, std::pair{150, 26}})
              EXPECT_TRUE(same_bits(view(out, name).slice_rows(from, count), view(clean, name).slice_rows(from, count)))
                  << poison << " in " << where << ", " << name << ", " << run.name();
          EXPECT_TRUE(same_bits(view(out, "d_halo"), view(clean, "d_halo"))) << poison << " in " << where;
        }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesBlockedConv, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

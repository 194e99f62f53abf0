/// hyena_block on the GPU and on the CPU: whatever kernel a device has for it.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "kernels/hyena_block.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

struct RunCase {
  std::int64_t groups, group_size, featurizer, taps, modes, tokens;  // taps or modes are 0
  std::vector<std::int64_t> cu_seqlens;                              // of the run
  bool skip = true, wide_parameters = false, joined = true;          // joined: q, k and v are columns of one matrix
  std::int64_t beside = 0;                                           // columns on both sides of them, if joined

  std::int64_t channels() const { return groups * group_size; }
  std::int64_t reach() const { return featurizer - 1 + (taps > 0 ? taps - 1 : 0); }
  std::string name() const {
    return fmt::format(
        "{} tokens in {} documents [{}, {}], {} groups of {} channels, featurizer {}, {} taps, {} modes{}{}{}", tokens,
        cu_seqlens.size() - 1, cu_seqlens.front(), cu_seqlens.back(), groups, group_size, featurizer, taps, modes,
        skip ? ", skip" : "", wide_parameters ? ", wide parameters" : "",
        joined ? fmt::format(", joined with {} columns beside", beside) : "");
  }
};

RunCase random_run(std::uint64_t seed) {
  RandomChoices choose(seed);
  const RandomRun run = random_run_of_pack(choose, seed);
  const bool fifteen = choose.chance(20), tiles = choose.chance(60), modal = choose.chance(30);
  const std::int64_t lengths[] = {1, 2, 4, 7, 16, 17, 64, 65, 127, 128, 129};
  return {.groups = fifteen ? 8 * choose.number(1, 3) : choose.number(1, 5),
          .group_size = fifteen ? 15
                        : tiles ? 16 * choose.number(1, 2)
                                : choose.number(1, 40),
          .featurizer = choose.chance(60) ? 3 : choose.number(1, 6),
          .taps = modal ? 0 : lengths[choose.number(0, 10)],
          .modes = modal ? (choose.chance(60) ? 16 : choose.number(1, 20)) : 0,
          .tokens = run.tokens,
          .cu_seqlens = run.cu_seqlens,
          .skip = choose.chance(70),
          .wide_parameters = choose.chance(50),
          .joined = choose.chance(60),
          .beside = choose.chance(60)  ? 0
                    : tiles || fifteen ? 8
                                       : choose.number(1, 5)};
}

constexpr const char* parts[] = {"q", "k", "v"};

/// The columns of a part, or of its gradient: of a matrix "x" or "d_x", or a tensor of its own.
TensorView part(const RunCase& run, const Tensors& all, const std::string& prefix, std::int64_t i) {
  if (!run.joined) return view(all, prefix + parts[i]);
  return view(all, prefix + "x").slice_columns(run.beside + i * run.channels(), run.channels());
}

Tensors inputs(const Stream& stream, const RunCase& run, DType dtype, std::uint64_t seed) {
  const DType wide = accumulator_of(dtype), parameters = run.wide_parameters ? wide : dtype;
  const std::int64_t D = run.channels();
  Tensors in;
  const auto random = [&](const std::string& name, DType type, Shape shape, double low = -1, double high = 1) {
    in[name] = random_tensor(stream, type, shape, seed + in.size(), low, high);
  };
  for (const std::string prefix : {"", "d_"}) {
    if (run.joined) random(prefix + "x", dtype, {run.tokens, 3 * D + 2 * run.beside});
    for (int i = 0; !run.joined && i < 3; ++i) random(prefix + parts[i], dtype, {run.tokens, D});
  }
  random("d_y", dtype, {run.tokens, D});
  random("y", dtype, {run.tokens, D});
  random("featurizer", dtype, {3 * D, run.featurizer});
  random("d_featurizer", wide, {3 * D, run.featurizer});
  if (run.skip) random("skip", parameters, {D}), random("d_skip", wide, {D});
  if (run.taps > 0) {
    random("taps", parameters, {run.groups, run.taps});
    random("d_taps", wide, {run.groups, run.taps});
  } else {
    random("residues", wide, {D, run.modes}, -0.3, 0.3);
    random("log_rates", wide, {D, run.modes}, -4, 0);
    for (const char* name : {"d_residues", "d_log_rates", "state_in", "adjoint_in"}) random(name, wide, {D, run.modes});
    if (run.cu_seqlens.back() > run.tokens)
      for (const char* name : {"state_out", "summary"}) random(name, wide, {D, run.modes});
  }
  if (run.reach() > 0) {
    // Rows before the first document are NaN: reading them would change results.
    std::vector<double> halo = values_of(random_tensor(stream, dtype, {run.reach(), 3 * D}, seed + 99));
    const std::int64_t unused = std::clamp<std::int64_t>(run.reach() + run.cu_seqlens[0], 0, run.reach());
    std::fill_n(halo.begin(), unused * 3 * D, std::nan(""));
    in["halo"] = tensor_of(stream, dtype, {run.reach(), 3 * D}, halo);
    random("d_halo", dtype, {run.reach(), 3 * D});
  }
  return in;
}

const char* const results[] = {"y",      "d_x",          "d_q",        "d_k",         "d_v",       "d_halo", "d_skip",
                               "d_taps", "d_featurizer", "d_residues", "d_log_rates", "state_out", "summary"};

HyenaBlockForward forward_of(const RunCase& run, const Tensors& all, SegmentsView segments) {
  return {.in = {.q = part(run, all, "", 0),
                 .k = part(run, all, "", 1),
                 .v = part(run, all, "", 2),
                 .halo = view(all, "halo"),
                 .featurizer = view(all, "featurizer"),
                 .skip = view(all, "skip"),
                 .taps = view(all, "taps"),
                 .residues = view(all, "residues"),
                 .log_rates = view(all, "log_rates"),
                 .segments = segments},
          .state_in = view(all, "state_in"),
          .y = view(all, "y"),
          .state_out = view(all, "state_out")};
}

HyenaBlockBackward backward_of(const RunCase& run, const Tensors& all, SegmentsView segments) {
  return {.in = forward_of(run, all, segments).in,
          .state_in = view(all, "state_in"),
          .adjoint_in = view(all, "adjoint_in"),
          .d_y = view(all, "d_y"),
          .d_q = part(run, all, "d_", 0),
          .d_k = part(run, all, "d_", 1),
          .d_v = part(run, all, "d_", 2),
          .d_halo = view(all, "d_halo"),
          .d_featurizer = view(all, "d_featurizer"),
          .d_skip = view(all, "d_skip"),
          .d_taps = view(all, "d_taps"),
          .d_residues = view(all, "d_residues"),
          .d_log_rates = view(all, "d_log_rates")};
}

/// Runs forward and backward.
void execute(const Stream& stream, const RunCase& run, const Tensors& all, SegmentsView segments) {
  hyena_block_forward(stream, forward_of(run, all, segments));
  hyena_block_backward(stream, backward_of(run, all, segments));
  if (view(all, "summary").present())
    hyena_block_summary(stream, {.in = forward_of(run, all, segments).in, .state = view(all, "summary")});
}

class DevicesHyenaBlock : public GpuCaseTest<RunCase> {
 protected:
  void expect_equal_to_the_cpu(const RunCase& run, std::uint64_t seed) const {
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, run.name()));
    // In bf16 features and gates are rounded, and gradients of parameters are long sums in which terms may cancel.
    const auto limit_of = [](const std::string& name) {
      const bool sum = name == "d_taps" || name == "d_skip" || name == "d_featurizer" || name == "d_residues" ||
                       name == "d_log_rates";
      return GetParam() == DType::f64 ? 1e-12 : GetParam() == DType::f32 ? 5e-6 : sum ? 2e-2 : 8e-3;
    };
    expect_as_on_the_cpu(run, inputs(cpu(), run, GetParam(), seed), results, limit_of);
  }
};

TEST_P(DevicesHyenaBlock, EqualsTheCpuOnRandomRuns) {
  for (std::uint64_t seed = 0; seed < cases(300) && !HasFailure(); ++seed)
    expect_equal_to_the_cpu(random_run(seed), seed);
}

TEST_P(DevicesHyenaBlock, EqualsTheCpuOnLongRuns) {
  std::vector<std::int64_t> uneven{-200, 3};
  for (std::int64_t length = 1; uneven.back() < 4990; length = length * 5 % 1013 + 1)
    uneven.push_back(uneven.back() + length);
  for (const auto& [taps, modes] : {std::pair(7, 0), std::pair(128, 0), std::pair(0, 16)})
    for (const std::int64_t group_size : {15, 16})
      for (const auto& cu_seqlens : {uneven, std::vector<std::int64_t>{-1, 5000}})
        expect_equal_to_the_cpu({.groups = 3,
                                 .group_size = group_size,
                                 .featurizer = 3,
                                 .taps = taps,
                                 .modes = modes,
                                 .tokens = 4990,
                                 .cu_seqlens = cu_seqlens},
                                1);
}

/// With so many channels a block of threads of a GPU takes several tiles of tokens, one after the other.
TEST_P(DevicesHyenaBlock, EqualsTheCpuOnManyChannels) {
  const std::vector<std::int64_t> short_ones{-5, 1, 250, 256, 257, 700, 1023, 1024, 1279, 1535, 1900, 2100},
      last_of_a_tile{0, 15, 47, 111, 127, 271, 527, 1039, 2100},  // documents begin with a tile's last token
      seconds{0, 257, 513, 770, 1025, 1026, 1537, 2100};          // … with the second token of 256
  for (const auto& cu_seqlens :
       {short_ones, last_of_a_tile, seconds, std::vector<std::int64_t>{-1, 2100}, std::vector<std::int64_t>{0, 2100}})
    expect_equal_to_the_cpu({.groups = 205,
                             .group_size = 16,
                             .featurizer = 3,
                             .taps = 0,
                             .modes = 16,
                             .tokens = 2100,
                             .cu_seqlens = cu_seqlens},
                            1);
}

/// Blocks of threads add sums in the L2 cache.
TEST_P(DevicesHyenaBlock, GivesTheSameBitsEveryTime) {
  const RunCase run{.groups = 40,
                    .group_size = 16,
                    .featurizer = 3,
                    .taps = 0,
                    .modes = 16,
                    .tokens = 3000,
                    .cu_seqlens = {0, 1, 600, 1025, 3000},
                    .joined = false};
  const Tensors in = inputs(cpu(), run, GetParam(), 1), first = on_gpu(run, in);
  for (int time = 0; time < 5; ++time) {
    const Tensors again = on_gpu(run, in);
    for (const char* name : {"y", "d_q", "d_k", "d_v", "d_featurizer", "d_skip", "d_residues", "d_log_rates"})
      EXPECT_TRUE(same_bits(view(first, name), view(again, name))) << name;
  }
}

TEST_P(DevicesHyenaBlock, KeepsNonFiniteValuesInTheirDocument) {
  for (const auto& [taps, modes] : {std::pair(7, 0), std::pair(128, 0), std::pair(0, 16)})
    for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()})
      for (const char* where : {"q", "k", "v", "d_y"}) {
        const RunCase run{.groups = 2,
                          .group_size = 16,
                          .featurizer = 3,
                          .taps = taps,
                          .modes = modes,
                          .tokens = 260,
                          .cu_seqlens = {-9, 62, 150, 176, modes > 0 ? 260 : 261},
                          .joined = false};
        const Tensors in = inputs(cpu(), run, GetParam(), 1), clean = on_gpu(run, in);
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

/// Warps of the kernels on tensor cores have channels of one group, but read and write rows of others beside them.
TEST_P(DevicesHyenaBlock, KeepsNonFiniteValuesInTheirGroup) {
  for (const std::int64_t width : {15, 16, 17, 20}) {
    const RunCase run{16, width, 3, 128, 0, 170, {-9, 62, 150, 171}, true, false, false};
    const Tensors clean = on_gpu(run, inputs(cpu(), run, GetParam(), 1));
    for (const std::int64_t group : {0, 6, 7, 8, 15}) {
      const Tensors in = inputs(cpu(), run, GetParam(), 1);
      for (const char* where : {"q", "k", "v", "d_y"})
        assign(view(in, where).slice_columns(group * width, width),
               std::vector<double>(static_cast<std::size_t>(run.tokens * width), std::nan("")));
      const Tensors out = on_gpu(run, in);
      for (const auto& [from, to] : {std::pair{std::int64_t{0}, group}, std::pair{group + 1, run.groups}}) {
        const auto others = [&, begin = from, count = to - from](const Tensors& of, const std::string& name) {
          return name == "d_taps" ? view(of, name).slice_rows(begin, count)
                                  : view(of, name).slice_columns(begin * width, count * width);
        };
        for (const char* name : {"y", "d_q", "d_k", "d_v", "d_taps"})
          EXPECT_TRUE(same_bits(others(out, name), others(clean, name))) << name << " " << group << ", " << run.name();
      }
    }
  }
}

/// A shape, and whether one kernel computes it forward and backward in bf16 on a GPU that has them.
struct FormCase {
  RunCase run;
  bool forward, backward;
};
const std::vector<FormCase> forms{
    // groups, channels of one, featurizer, taps, modes, tokens, documents, skip, wide parameters, joined, beside
    {{3, 16, 3, 7, 0, 300, {0, 57, 58, 300}}, true, true},
    {{33, 16, 3, 7, 0, 1021, {-3, 100, 101, 613, 1021}}, true, true},
    {{2, 15, 3, 7, 0, 300, {0, 57, 58, 300}}, false, false},  // 30 channels
    {{8, 15, 3, 7, 0, 300, {-200, 57, 58, 300}, true, true}, true, true},
    {{16, 1, 2, 4, 0, 77, {-9, 1, 77}, false, true, false}, true, true},
    {{2, 4, 1, 1, 0, 1, {0, 1}}, true, true},
    {{2, 4, 1, 7, 0, 1, {-6, 1}}, true, true},
    {{264, 1, 3, 7, 0, 13, {0, 6, 13}}, true, true},
    {{3, 16, 4, 7, 0, 300, {0, 300}}, false, false},
    {{3, 16, 3, 8, 0, 300, {0, 300}}, true, true},
    {{5, 16, 3, 128, 0, 1021, {-3, 100, 101, 613, 1021}}, true, true},
    {{5, 16, 3, 128, 0, 1500, {-2000, 1500}, true, true, false}, true, true},
    {{2, 32, 2, 33, 0, 300, {-40, 2, 57, 58, 300}, false}, true, true},
    {{17, 16, 3, 129, 0, 100, {0, 1, 2, 3, 48, 64, 100}}, true, true},
    {{1, 16, 3, 128, 0, 1, {-1, 1}}, true, true},
    {{8, 15, 3, 128, 0, 900, {-200, 57, 58, 300, 900}, true, true}, true, true},
    {{24, 15, 3, 128, 0, 333, {-3, 1, 2, 33, 64, 65, 300, 340}, true, false, true, 8}, true, true},
    {{16, 15, 1, 33, 0, 31, {-31, 31}, false, false, false}, true, true},
    {{40, 15, 2, 129, 0, 1, {-1, 2}}, true, true},
    {{2, 20, 3, 128, 0, 500, {-200, 57, 58, 300, 500}}, true, true},  // two windows of channels a group
    {{8, 17, 2, 40, 0, 300, {0, 57, 58, 300}}, true, true},
    {{8, 8, 3, 128, 0, 300, {0, 300}}, false, false},  // groups of 8 channels
    {{3, 16, 3, 130, 0, 300, {0, 300}}, false, false},
    {{3, 16, 3, 0, 4, 300, {0, 300}}, false, false},
    {{3, 16, 3, 0, 16, 300, {0, 57, 58, 300}}, true, false},
    {{9, 8, 3, 0, 16, 1024, {-3, 100, 101, 613, 1030}}, true, false},
    {{9, 8, 3, 0, 16, 1021, {-1, 3, 16, 613, 1021}, true, true, false}, true, false},
    {{9, 8, 3, 0, 16, 1021, {-3, 100, 101, 613, 1022}}, false, false},  // a state leaves within 256 tokens
    {{24, 1, 2, 0, 16, 2000, {-2000, 2000}, false, true}, true, false},
    {{3, 16, 3, 0, 16, 2560, {-2000, 2600}, true, false, false}, true, false},
    {{8, 1, 1, 0, 16, 1, {-6, 1}}, true, false},
    {{2, 15, 3, 0, 16, 300, {0, 300}}, false, false},
    {{3, 16, 4, 0, 16, 300, {0, 300}}, false, false},
    {{3, 16, 3, 7, 0, 300, {0, 300}, true, false, true, 4}, false, false},  // rows that start at 8 bytes
};

TEST_P(DevicesHyenaBlock, TakesTheFusedKernelsWhereTheySuit) {
  bool available = false;
  for (const FormCase& form : forms) {
    const RunCase& run = form.run;
    SCOPED_TRACE(run.name());
    GpuTest::on_gpu(inputs(cpu(), run, GetParam(), 1), run.cu_seqlens, run.tokens,
                    [&](const Stream&, const Tensors& all, SegmentsView segments) {
                      const HyenaBlockForward forward = forward_of(run, all, segments);
                      const bool fused = hyena_block_is_fused(Device::cuda, forward);
                      if (&form == forms.data()) available = fused;  // only on sm_90 and newer, only in bf16
                      EXPECT_EQ(fused, available && form.forward);
                      EXPECT_EQ(hyena_block_is_fused(Device::cuda, backward_of(run, all, segments)),
                                available && form.backward);
                      EXPECT_FALSE(hyena_block_is_fused(Device::cpu, forward));
                    });
    expect_equal_to_the_cpu(run, 1);
  }
  EXPECT_LE(available, GetParam() == DType::bf16);
  std::cout << name_of(GetParam()) << (available ? ": fused" : ": composed") << std::endl;
}

/// The rows [begin, begin + tokens) of a run as a run of their own; q, k and v are tensors of their own.
Tensors rows_of(const Stream& stream, const Tensors& all, std::int64_t begin, std::int64_t tokens) {
  Tensors rows;
  for (const auto& [name, tensor] : all) {
    TensorView x = tensor;
    for (const char* tokenwise : {"q", "k", "v", "d_q", "d_k", "d_v", "y", "d_y"})
      if (name == tokenwise) x = x.slice_rows(begin, tokens);
    rows[name] = tensor_of(stream, x.dtype, x.shape, values_of(x));
  }
  return rows;
}

/// With 7 taps a token's results are sums in the same order wherever its document is.
TEST_P(DevicesHyenaBlock, ADocumentHasTheBitsThatItHasInAPack) {
  const RunCase pack{.groups = 20,
                     .group_size = 16,
                     .featurizer = 3,
                     .taps = 7,
                     .modes = 0,
                     .tokens = 420,
                     .cu_seqlens = {0, 57, 58, 66, 300, 420},
                     .joined = false};
  const Tensors in = inputs(cpu(), pack, GetParam(), 1), packed = on_gpu(pack, in);
  for (std::size_t s = 0; s + 1 < pack.cu_seqlens.size(); ++s) {
    RunCase alone = pack;
    const std::int64_t begin = pack.cu_seqlens[s];
    alone.tokens = pack.cu_seqlens[s + 1] - begin;
    alone.cu_seqlens = {0, alone.tokens};
    const Tensors out = on_gpu(alone, rows_of(cpu(), in, begin, alone.tokens));
    for (const char* name : {"y", "d_q", "d_k", "d_v"}) {
      const TensorView expected = view(packed, name).slice_rows(begin, alone.tokens);
      if (GetParam() == DType::bf16)
        EXPECT_TRUE(same_bits(view(out, name), expected)) << name << ", document " << s;
      else
        expect_close(view(out, name), expected, 5e-6, name);
    }
  }
}

/// How often a fused kernel rounds to bf16 on the way to a result. Roundings of parts are independent, so their errors
/// add as the root of their number. In float32 are: all up to the result with at most 7 taps; d_skip = Σ d_c x always.
/// Tensor cores take rounded x = k⊙v, d_c = q⊙d_y and taps: y and d_q have x and taps, d_k and d_v d_c and taps, and
/// d_taps = Σ d_c x has x and d_c.
int roundings(const std::string& name, std::int64_t taps) {
  const bool tensor_cores = taps > 7, parameter = name == "d_skip" || name == "d_taps" || name == "d_featurizer";
  return (parameter ? 0 : 1) + (tensor_cores && name != "d_skip" ? 2 : 0);
}

/// Against the formula in float64, from the same inputs.
TEST_P(DevicesHyenaBlock, IsWithinTheRoundingsOfTheFormula) {
  for (const std::int64_t taps : {7, 128, 0})
    for (const std::int64_t group_size : {15, 16}) {
      const RunCase run{.groups = 24,
                        .group_size = group_size,
                        .featurizer = 3,
                        .taps = taps,
                        .modes = taps == 0 ? 16 : 0,
                        .tokens = 1900,
                        .cu_seqlens = {-5, 157, 158, 1066, 1900},
                        .wide_parameters = true};
      const Tensors in = inputs(cpu(), run, GetParam(), 1);
      bool fused = false;
      const Tensors got = GpuTest::on_gpu(in, run.cu_seqlens, run.tokens,
                                          [&](const Stream& stream, const Tensors& all, SegmentsView segments) {
                                            execute(stream, run, all, segments);
                                            fused = hyena_block_is_fused(Device::cuda, backward_of(run, all, segments));
                                          });
      Tensors exact;
      for (const auto& [name, tensor] : in)
        exact[name] = tensor_of(cpu(), DType::f64, tensor.view().shape, values_of(tensor));
      execute(cpu(), run, exact, segments_view(run.cu_seqlens, run.tokens));
      // The error of a rounding to bf16 is uniform within half of the distance of its numbers, which is at most 2^-7 of
      // the value.
      const double rounding = std::exp2(-7) / std::sqrt(12.0), sums_in_f32 = 5e-6;
      for (const char* name : results)
        if (view(in, name).present()) {
          const double error = relative_error(values_of(view(got, name)), values_of(view(exact, name)));
          const double limit = GetParam() == DType::f64   ? 1e-12
                               : GetParam() == DType::f32 ? sums_in_f32
                               : fused ? std::max(sums_in_f32, rounding * std::sqrt(roundings(name, taps)))
                                       : 6e-3;  // each of the composed kernels rounds
          EXPECT_LE(error, limit) << name << ", " << run.name();
          if (GetParam() == DType::bf16)
            std::cout << taps << " taps, " << group_size << " channels a group, " << name << ": " << error << " of "
                      << limit << std::endl;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesHyenaBlock, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

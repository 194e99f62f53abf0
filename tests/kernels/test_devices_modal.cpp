#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>
#include <string>

#include "kernels/core/integer.hpp"
#include "kernels/modal_conv.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

struct RunCase {
  std::int64_t channels, modes, tokens;
  std::vector<std::int64_t> cu_seqlens;  // of the run
  bool q = true, k = true, skip = true, wide_skip = false, carries = true, wide = false;
  double highest_rate = 0;  // its logarithm

  std::string name() const {
    return fmt::format("{} tokens in {} documents [{}, {}], {} channels, {} modes{}{}{}{}{}", tokens,
                       cu_seqlens.size() - 1, cu_seqlens.front(), cu_seqlens.back(), channels, modes, q ? ", q" : "",
                       k ? ", k" : "", skip ? ", skip" : "", carries ? ", carries" : "", wide ? ", wide" : "");
  }
};

RunCase random_run(std::uint64_t seed) {
  RandomChoices choose(seed);
  const RandomRun run = random_run_of_pack(choose, seed);
  return {.channels = choose.chance(70) ? choose.number(1, 70) : choose.number(71, 300),
          .modes = choose.chance(50)   ? 16
                   : choose.chance(70) ? choose.number(1, 32)
                                       : choose.number(33, 100),
          .tokens = run.tokens,
          .cu_seqlens = run.cu_seqlens,
          .q = choose.chance(70),
          .k = choose.chance(70),
          .skip = choose.chance(70),
          .wide_skip = choose.chance(50),
          .carries = choose.chance(80),
          .wide = choose.chance(30)};
}

/// A run that suits the tensor cores in bf16: 16 modes, whole packets of channels, q and k.
RunCase random_run_of_16_modes(std::uint64_t seed) {
  RandomChoices choose(seed);
  const std::int64_t pack = choose.number(1, 2600), begin = choose.chance(40) ? 0 : choose.number(0, pack - 1),
                     end = choose.chance(40)   ? pack
                           : choose.chance(50) ? std::min(pack, begin + 256 * choose.number(1, 8))
                                               : choose.number(begin, pack);
  const Segments segments = choose.chance(25) ? Segments::one_document(pack) : random_segments(pack, seed);
  return {.channels = 8 * choose.number(1, 20),
          .modes = 16,
          .tokens = end - begin,
          .cu_seqlens = segments.slice(begin, end),
          .skip = choose.chance(70),
          .wide_skip = choose.chance(50),
          .carries = choose.chance(80),
          .wide = choose.chance(20)};
}

Tensors inputs(const Stream& stream, const RunCase& run, DType dtype, std::uint64_t seed) {
  const DType accumulator = accumulator_of(dtype);
  const Shape rows{run.tokens, run.channels + (run.wide ? 5 : 0)}, matrix{run.channels, run.modes},
      vector{run.channels};
  Tensors in;
  if (run.q) in["q"] = random_tensor(stream, dtype, rows, seed);
  if (run.k) in["k"] = random_tensor(stream, dtype, rows, seed + 1);
  in["v"] = random_tensor(stream, dtype, rows, seed + 2);
  if (run.skip) in["skip"] = random_tensor(stream, run.wide_skip ? accumulator : dtype, vector, seed + 3);
  in["residues"] = random_tensor(stream, accumulator, matrix, seed + 4);
  in["log_rates"] = random_tensor(stream, accumulator, matrix, seed + 5, -6, run.highest_rate);
  in["d_y"] = random_tensor(stream, dtype, rows, seed + 6);
  if (run.carries)
    for (const char* name : {"state_in", "adjoint_in"}) in[name] = random_tensor(stream, accumulator, matrix, seed + 7);
  // Values that are overwritten, or sums that are added to.
  for (const char* name : {"y", "d_q", "d_k", "d_v"}) in[name] = random_tensor(stream, dtype, rows, seed + 8);
  for (const char* name : {"d_residues", "d_log_rates", "summary", "adjoint", "carry", "state_out", "adjoint_out"})
    in[name] = random_tensor(stream, accumulator, matrix, seed + 9);
  in["d_skip"] = random_tensor(stream, accumulator, vector, seed + 10);
  return in;
}

const char* const results[] = {"y",           "d_q",     "d_k",     "d_v",   "d_skip",    "d_residues",
                               "d_log_rates", "summary", "adjoint", "carry", "state_out", "adjoint_out"};

/// Whether a document has tokens on both sides of `edge`: only then states and adjoints cross it.
bool crosses(const RunCase& run, std::int64_t edge) {
  const std::vector<std::int64_t>& documents = run.cu_seqlens;
  return documents.front() < edge && edge < documents.back() && !std::ranges::binary_search(documents, edge);
}

/// Runs all five kernels.
void execute(const Stream& stream, const RunCase& run, const Tensors& all, SegmentsView segments) {
  const auto columns = [&](const char* name) {
    return view(all, name).present() ? view(all, name).slice_columns(run.wide ? 3 : 0, run.channels) : TensorView{};
  };
  const GatedConvInputs in{
      .q = columns("q"), .k = columns("k"), .v = columns("v"), .skip = view(all, "skip"), .segments = segments};
  const TensorView residues = view(all, "residues"), log_rates = view(all, "log_rates");
  const Tensor saved(stream, log_rates.dtype, {ceil_div(run.tokens, modal_conv_block), run.channels, run.modes});
  modal_conv_forward(stream, {.in = in,
                              .residues = residues,
                              .log_rates = log_rates,
                              .state_in = view(all, "state_in"),
                              .y = columns("y"),
                              .states = saved,
                              .state_out = crosses(run, run.tokens) ? view(all, "state_out") : TensorView{}});
  modal_conv_backward(stream, {.in = in,
                               .residues = residues,
                               .log_rates = log_rates,
                               .states = saved,
                               .adjoint_in = view(all, "adjoint_in"),
                               .gradients = {.d_y = columns("d_y"),
                                             .d_q = run.q ? columns("d_q") : TensorView{},
                                             .d_k = run.k ? columns("d_k") : TensorView{},
                                             .d_v = columns("d_v"),
                                             .d_skip = run.skip ? view(all, "d_skip") : TensorView{}},
                               .d_residues = view(all, "d_residues"),
                               .d_log_rates = view(all, "d_log_rates"),
                               .adjoint_out = crosses(run, 0) ? view(all, "adjoint_out") : TensorView{}});
  modal_conv_summary(stream, {.in = in, .log_rates = log_rates, .state = view(all, "summary")});
  modal_conv_adjoint_summary(
      stream,
      {.in = in, .residues = residues, .log_rates = log_rates, .d_y = columns("d_y"), .adjoint = view(all, "adjoint")});
  modal_conv_fold(stream, {.log_rates = log_rates,
                           .summary_state = view(all, "summary"),
                           .tokens = run.tokens,
                           .carry = view(all, "carry")});
}

class DevicesModal : public GpuCaseTest<RunCase> {
 protected:
  void expect_equal_to_the_cpu(const RunCase& run, std::uint64_t seed) const {
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, run.name()));
    const double limit = GetParam() == DType::f64 ? 1e-11 : GetParam() == DType::f32 ? 1e-5 : 4e-3;
    expect_as_on_the_cpu(run, inputs(cpu(), run, GetParam(), seed), results, [&](std::string_view) { return limit; });
  }
};

TEST_P(DevicesModal, ModalConvEqualsTheCpuOnRandomRuns) {
  for (std::uint64_t seed = 0; seed < cases(200); ++seed) expect_equal_to_the_cpu(random_run(seed), seed);
}

TEST_P(DevicesModal, ModalConvOf16ModesEqualsTheCpuOnRandomRuns) {
  for (std::uint64_t seed = 0; seed < cases(60); ++seed) expect_equal_to_the_cpu(random_run_of_16_modes(seed), seed);
}

TEST_P(DevicesModal, ModalConvOf16ModesEqualsTheCpuWhereDocumentsMeetTiles) {
  std::vector<std::int64_t> short_ones{-40}, tiles{0};
  while (short_ones.back() < 1100) short_ones.push_back(short_ones.back() + 2 + (short_ones.back() + 42) % 7 * 3 % 16);
  while (tiles.back() < 1024) tiles.push_back(tiles.back() + 16 * (1 + tiles.back() / 16 % 3));
  expect_equal_to_the_cpu({.channels = 72, .modes = 16, .tokens = 1100, .cu_seqlens = short_ones}, 1);
  expect_equal_to_the_cpu({.channels = 72, .modes = 16, .tokens = 1024, .cu_seqlens = tiles}, 2);
  // An adjoint that enters within a unit of 256 tokens; at its last tokens a document begins, or not.
  for (const std::int64_t tokens : {1, 15, 255, 256, 257, 511, 1025})
    for (const std::int64_t start : {tokens / 2, (tokens - 1) / 256 * 256, tokens - 1}) {
      std::vector<std::int64_t> entries{-5, tokens + 3};
      if (start > 0) entries.insert(entries.begin() + 1, start);
      expect_equal_to_the_cpu({.channels = 64, .modes = 16, .tokens = tokens, .cu_seqlens = entries}, 3);
    }
}

/// Against the formula in float64, from the same inputs; in bf16 only the results are rounded. If the adjoint enters
/// within 256 tokens, the last of them are computed by the recurrence, which rounds k⊙v.
TEST_P(DevicesModal, ModalConvOf16ModesIsWithinARoundingOfTheFormula) {
  for (const std::int64_t tokens : {3000, 3072}) {
    const RunCase run{.channels = 136, .modes = 16, .tokens = tokens, .cu_seqlens = {-5, 157, 158, 1066, tokens + 9}};
    Tensors in = inputs(cpu(), run, GetParam(), 1);
    in["state_out"] = tensor_of(cpu(), in["state_out"].view().dtype, in["state_out"].view().shape,
                                std::vector<double>(static_cast<std::size_t>(136 * 16), 0));
    const Tensors got = on_gpu(run, in);
    Tensors exact;
    for (const auto& [name, tensor] : in)
      exact[name] = tensor_of(cpu(), DType::f64, tensor.view().shape, values_of(tensor));
    execute(cpu(), run, exact, segments_view(run.cu_seqlens, run.tokens));
    for (const char* name :
         {"y", "d_q", "d_k", "d_v", "d_skip", "d_residues", "d_log_rates", "state_out", "adjoint_out"}) {
      const double error = relative_error(values_of(view(got, name)), values_of(view(exact, name)));
      const bool rounded = *name == 'y' || std::string_view("d_q d_k d_v").find(name) != std::string_view::npos;
      EXPECT_LE(error, GetParam() == DType::f64   ? 1e-11
                       : GetParam() == DType::f32 ? 1e-5
                       : rounded                  ? 1.75e-3
                       : tokens % 256 == 0        ? 2e-5
                                                  : 1e-3)
          << name;
      if (GetParam() == DType::bf16) std::cout << tokens << " tokens, " << name << ": " << error << std::endl;
    }
  }
}

/// A document in a pack, and alone: other tiles of tokens, so other roundings.
TEST_P(DevicesModal, ModalConvOf16ModesOfADocumentIsThatOfThePack) {
  const RunCase pack{.channels = 64,
                     .modes = 16,
                     .tokens = 1420,
                     .cu_seqlens = {0, 57, 58, 66, 300, 1420},
                     .wide_skip = true,
                     .carries = false};
  const Tensors in = inputs(cpu(), pack, GetParam(), 1), packed = on_gpu(pack, in);
  const double limit = GetParam() == DType::f64 ? 1e-12 : GetParam() == DType::f32 ? 1e-5 : 1e-3;
  for (std::size_t s = 0; s + 1 < pack.cu_seqlens.size(); ++s) {
    const std::int64_t begin = pack.cu_seqlens[s], tokens = pack.cu_seqlens[s + 1] - begin;
    RunCase alone = pack;
    alone.tokens = tokens;
    alone.cu_seqlens = {0, tokens};
    Tensors rows;
    for (const auto& [name, tensor] : in) {
      TensorView x = tensor;
      if (x.rows() == pack.tokens) x = x.slice_rows(begin, tokens);
      rows[name] = tensor_of(cpu(), x.dtype, x.shape, values_of(x));
    }
    const Tensors out = on_gpu(alone, rows);
    for (const char* name : {"y", "d_q", "d_k", "d_v"})
      expect_close(view(out, name), view(packed, name).slice_rows(begin, tokens), limit, name);
  }
}

/// Runs that carry the state to the right and the adjoint to the left, against one run.
TEST_P(DevicesModal, ModalConvOf16ModesCutIntoRunsIsThatOfOneRun) {
  const RunCase whole{.channels = 64, .modes = 16, .tokens = 1300, .cu_seqlens = {0, 100, 1300}, .carries = false};
  Tensors one = inputs(cpu(), whole, GetParam(), 1);
  for (const char* name : {"d_residues", "d_log_rates", "d_skip"}) {
    const TensorView x = view(one, name);
    one[name] = tensor_of(cpu(), x.dtype, x.shape, std::vector<double>(static_cast<std::size_t>(x.size()), 0));
  }
  const Tensors expected = on_gpu(whole, one);
  const std::int64_t cuts[] = {0, 256, 768, 900, 1300};
  const Shape matrix{whole.channels, whole.modes};
  const DType wide = accumulator_of(GetParam());
  Tensors there;
  for (const auto& [name, tensor] : one) there[name] = to_gpu(tensor);
  std::vector<Tensor> saved(4), states(5), adjoints(5);
  std::vector<DeviceSegments> segments;
  const Segments documents({0, 100, 1300});
  for (int i = 0; i < 4; ++i) {
    segments.emplace_back(gpu(), documents.slice(cuts[i], cuts[i + 1]), cuts[i + 1] - cuts[i]);
    saved[i] = Tensor(gpu(), wide, {ceil_div(cuts[i + 1] - cuts[i], modal_conv_block), matrix[0], matrix[1]});
  }
  for (int i = 0; i < 5; ++i) states[i] = Tensor(gpu(), wide, matrix), adjoints[i] = Tensor(gpu(), wide, matrix);
  const auto rows = [&](const char* name, int i) {
    return view(there, name).slice_rows(cuts[i], cuts[i + 1] - cuts[i]);
  };
  const auto run = [&](int i) -> GatedConvInputs {
    return {.q = rows("q", i),
            .k = rows("k", i),
            .v = rows("v", i),
            .skip = view(there, "skip"),
            .segments = segments[static_cast<std::size_t>(i)].view()};
  };
  for (int i = 0; i < 4; ++i)
    modal_conv_forward(gpu(), {.in = run(i),
                               .residues = view(there, "residues"),
                               .log_rates = view(there, "log_rates"),
                               .state_in = states[i],
                               .y = rows("y", i),
                               .states = saved[i],
                               .state_out = states[i + 1]});
  for (int i = 3; i >= 0; --i)
    modal_conv_backward(gpu(), {.in = run(i),
                                .residues = view(there, "residues"),
                                .log_rates = view(there, "log_rates"),
                                .states = saved[i],
                                .adjoint_in = adjoints[i + 1],
                                .gradients = {.d_y = rows("d_y", i),
                                              .d_q = rows("d_q", i),
                                              .d_k = rows("d_k", i),
                                              .d_v = rows("d_v", i),
                                              .d_skip = view(there, "d_skip")},
                                .d_residues = view(there, "d_residues"),
                                .d_log_rates = view(there, "d_log_rates"),
                                .adjoint_out = adjoints[i]});
  const double limit = GetParam() == DType::f64 ? 1e-12 : GetParam() == DType::f32 ? 1e-5 : 1e-3;
  for (const char* name : {"y", "d_q", "d_k", "d_v", "d_skip", "d_residues", "d_log_rates"})
    expect_close(to_cpu(view(there, name)), view(expected, name), limit, name);
}

TEST_P(DevicesModal, ModalConvEqualsTheCpuWhereChunksAreLong) {
  RunCase run{.channels = 1100, .modes = 16, .tokens = 33000, .cu_seqlens = {-3, 20000, 20001, 33001}};
  if (GetParam() != DType::f64) expect_equal_to_the_cpu(run, 1);
}

TEST_P(DevicesModal, ModalConvOfManyModesAddsGroupsOfModes) {
  for (const std::int64_t modes : {33, 64, 100})
    expect_equal_to_the_cpu({.channels = 70, .modes = modes, .tokens = 700, .cu_seqlens = {-9, 62, 450, 701}}, 1);
}

TEST_P(DevicesModal, ModalConvOfRatesThatOverflowEqualsTheCpu) {
  for (const auto& [modes, channels] : {std::pair{5, 70}, {40, 70}, {16, 72}})
    expect_equal_to_the_cpu(
        {.channels = channels, .modes = modes, .tokens = 700, .cu_seqlens = {-9, 62, 450, 701}, .highest_rate = 180},
        1);
}

TEST_P(DevicesModal, ModalConvKeepsNonFiniteValuesInTheirDocument) {
  for (const auto& [modes, channels] : {std::pair{16, 37}, {40, 37}, {16, 72}})
    for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()})
      for (const char* where : {"q", "k", "v", "d_y"}) {
        const std::int64_t tokens = channels == 72 ? 512 : 200;
        const RunCase run{
            .channels = channels, .modes = modes, .tokens = tokens, .cu_seqlens = {-9, 62, 150, tokens + 1}};
        const Tensors in = inputs(cpu(), run, GetParam(), 1);
        const Tensors clean = on_gpu(run, in);
        const TensorView target = view(in, where);
        for (const std::int64_t t : {62, 100, 149})
          assign(target.slice_rows(t, 1), std::vector<double>(static_cast<std::size_t>(target.columns()), poison));
        const Tensors out = on_gpu(run, in);
        for (const char* name : {"y", "d_q", "d_k", "d_v"})
          for (const auto& [from, count] : {std::pair<std::int64_t, std::int64_t>{0, 62}, {150, tokens - 150}})
            EXPECT_TRUE(same_bits(view(out, name).slice_rows(from, count), view(clean, name).slice_rows(from, count)))
                << poison << " in " << where << ", " << name;
        for (const char* name : {"summary", "adjoint", "state_out", "adjoint_out"})
          EXPECT_TRUE(same_bits(view(out, name), view(clean, name))) << poison << " in " << where << ", " << name;
      }
}

TEST_P(DevicesModal, ModalFilterAndItsBackwardEqualTheCpu) {
  if (GetParam() == DType::bf16) return;  // filters are never stored in bf16
  const double limit = GetParam() == DType::f64 ? 1e-13 : 2e-6;
  for (const auto& [channels, modes, length, highest] : {std::tuple{1, 1, 1, 0.0},
                                                         {3, 16, 255, 0.0},
                                                         {70, 5, 256, 0.0},
                                                         {19, 33, 257, 0.0},
                                                         {5, 16, 40000, 0.0},
                                                         {70000, 2, 3, 0.0},
                                                         {19, 33, 257, 90.0}}) {
    SCOPED_TRACE(fmt::format("{} channels, {} modes, {} taps, rates up to exp({})", channels, modes, length, highest));
    const auto made = [&](std::int64_t columns, std::uint64_t seed, double low = -1, double high = 1) {
      return random_tensor(cpu(), GetParam(), {channels, columns}, seed, low, high);
    };
    const Tensor residues = made(modes, 1), log_rates = made(modes, 2, -8, highest), d_taps = made(length, 3),
                 taps = made(length, 4), d_residues = made(modes, 5), d_log_rates = made(modes, 6);
    const Tensor there[] = {to_gpu(residues), to_gpu(log_rates),  to_gpu(d_taps),
                            to_gpu(taps),     to_gpu(d_residues), to_gpu(d_log_rates)};
    modal_filter(cpu(), {.residues = residues, .log_rates = log_rates, .taps = taps});
    modal_filter(gpu(), {.residues = there[0], .log_rates = there[1], .taps = there[3]});
    modal_filter_backward(cpu(), {.residues = residues,
                                  .log_rates = log_rates,
                                  .d_taps = d_taps,
                                  .d_residues = d_residues,
                                  .d_log_rates = d_log_rates});
    modal_filter_backward(gpu(), {.residues = there[0],
                                  .log_rates = there[1],
                                  .d_taps = there[2],
                                  .d_residues = there[4],
                                  .d_log_rates = there[5]});
    EXPECT_LE(relative_error(to_cpu(there[3]), taps), limit);
    EXPECT_LE(relative_error(to_cpu(there[4]), d_residues), limit);
    EXPECT_LE(relative_error(to_cpu(there[5]), d_log_rates), limit);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesModal, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

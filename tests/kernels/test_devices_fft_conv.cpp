#include <cmath>
#include <limits>
#include <string>

#include "kernels/fft_conv.hpp"
#include "kernels/fourier.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::test {
namespace {

struct Pack {
  std::int64_t groups, group_size, length;
  std::vector<std::int64_t> cu_seqlens;
  bool q = true, k = true, skip = true, wide_skip = false, wide_taps = false, wide = false;
  bool keeps = false;  ///< forward keeps its spectra for backward

  std::int64_t channels() const { return groups * group_size; }
  std::int64_t tokens() const { return cu_seqlens.back(); }
  std::string name() const {
    return fmt::format("{} tokens in {} documents, {} groups of {} channels, {} taps{}{}{}{}{}{}", tokens(),
                       cu_seqlens.size() - 1, groups, group_size, length, q ? ", q" : "", k ? ", k" : "",
                       skip ? ", skip" : "", wide_skip ? ", wide skip" : "", wide_taps ? ", wide taps" : "",
                       wide ? ", columns" : "");
  }
};

/// Documents shorter and longer than the filter; sizes below and above a tile and a step of padded lengths.
Pack random_pack(std::uint64_t seed) {
  RandomChoices choose(seed);
  const std::int64_t tokens = choose.chance(40) ? choose.number(1, 70) : choose.number(71, 1200);
  const Segments segments = choose.chance(25) ? Segments::one_document(tokens) : random_segments(tokens, seed);
  const bool grouped = choose.chance(50);
  return {.groups = grouped             ? choose.number(1, 6)
                    : choose.chance(50) ? choose.number(1, 30)
                                        : 8 * choose.number(1, 12),
          .group_size = grouped ? choose.chance(50) ? choose.number(2, 20) : 8 * choose.number(1, 5) : 1,
          .length = choose.chance(50) ? tokens : choose.number(1, 2 * tokens),
          .cu_seqlens = segments.slice(0, tokens),
          .q = choose.chance(60),
          .k = choose.chance(60),
          .skip = choose.chance(70),
          .wide_skip = choose.chance(50),
          .wide_taps = choose.chance(50),
          .wide = choose.chance(30)};
}

Tensors inputs(const Stream& stream, const Pack& pack, DType dtype, std::uint64_t seed) {
  const DType accumulator = accumulator_of(dtype);
  const Shape rows{pack.tokens(), pack.channels() + (pack.wide ? 5 : 0)}, filter{pack.groups, pack.length};
  Tensors in;
  if (pack.q) in["q"] = random_tensor(stream, dtype, rows, seed);
  if (pack.k) in["k"] = random_tensor(stream, dtype, rows, seed + 1);
  in["v"] = random_tensor(stream, dtype, rows, seed + 2);
  if (pack.skip) in["skip"] = random_tensor(stream, pack.wide_skip ? accumulator : dtype, {pack.channels()}, seed + 3);
  in["taps"] = random_tensor(stream, pack.wide_taps ? accumulator : dtype, filter, seed + 4);
  in["d_y"] = random_tensor(stream, dtype, rows, seed + 5);
  // Values that are overwritten, or sums that are added to.
  for (const char* name : {"y", "d_q", "d_k", "d_v"}) in[name] = random_tensor(stream, dtype, rows, seed + 6);
  in["d_skip"] = random_tensor(stream, accumulator, {pack.channels()}, seed + 7);
  in["d_taps"] = random_tensor(stream, accumulator, filter, seed + 8);
  return in;
}

const char* const results[] = {"y", "d_q", "d_k", "d_v", "d_skip", "d_taps"};

void execute(const Stream& stream, const Pack& pack, const Tensors& all, SegmentsView segments) {
  const auto columns = [&](const char* name) {
    return view(all, name).present() ? view(all, name).slice_columns(pack.wide ? 3 : 0, pack.channels()) : TensorView{};
  };
  const GatedConvInputs in{
      .q = columns("q"), .k = columns("k"), .v = columns("v"), .skip = view(all, "skip"), .segments = segments};
  const TensorView taps = view(all, "taps");
  Tensor spectra;
  if (pack.keeps) spectra = Tensor(stream, accumulator_of(in.v.dtype), {fft_conv_spectra_values(stream, in, taps)});
  fft_conv_forward(stream, {.in = in, .taps = taps, .y = columns("y"), .spectra = spectra});
  fft_conv_backward(stream, {.in = in,
                             .taps = taps,
                             .gradients = {.d_y = columns("d_y"),
                                           .d_q = pack.q ? columns("d_q") : TensorView{},
                                           .d_k = pack.k ? columns("d_k") : TensorView{},
                                           .d_v = columns("d_v"),
                                           .d_skip = pack.skip ? view(all, "d_skip") : TensorView{}},
                             .d_taps = view(all, "d_taps"),
                             .spectra = spectra});
}

class DevicesFftConv : public GpuCaseTest<Pack> {
 protected:
  void expect_equal_to_the_cpu(const Pack& pack, std::uint64_t seed) const {
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, pack.name()));
    const double limit = GetParam() == DType::f64 ? 1e-13 : GetParam() == DType::f32 ? 6e-6 : 4e-3;
    expect_as_on_the_cpu(pack, inputs(cpu(), pack, GetParam(), seed), results, [&](std::string_view) { return limit; });
  }
};

std::vector<std::int64_t> equal_documents(std::int64_t count, std::int64_t tokens) {
  std::vector<std::int64_t> cu_seqlens(static_cast<std::size_t>(count) + 1);
  for (std::size_t s = 0; s < cu_seqlens.size(); ++s) cu_seqlens[s] = static_cast<std::int64_t>(s) * tokens;
  return cu_seqlens;
}

TEST_P(DevicesFftConv, EqualsTheCpuOnRandomPacks) {
  for (std::uint64_t seed = 0; seed < cases(250); ++seed) expect_equal_to_the_cpu(random_pack(seed), seed);
}

TEST_P(DevicesFftConv, EqualsTheCpuWhereWorkIsDividedIntoPieces) {
  // Cases: slices of channels of a long document; a slice that divides a group; documents in several pieces; one group.
  for (const Pack& pack : {Pack{.groups = 80, .group_size = 1, .length = 70000, .cu_seqlens = {0, 70000}},
                           Pack{.groups = 3, .group_size = 40, .length = 300, .cu_seqlens = {0, 65536, 65537, 140000}},
                           Pack{.groups = 2, .group_size = 300, .length = 32, .cu_seqlens = equal_documents(3000, 9)},
                           Pack{.groups = 1, .group_size = 520, .length = 90, .cu_seqlens = equal_documents(80, 100)}})
    if (GetParam() != DType::f64) expect_equal_to_the_cpu(pack, 1);
}

/// Documents of 64 to a million elements; with filters that one channel has, or several; with length classes of one
/// document and of several.
std::vector<Pack> packs_of_every_power_of_two() {
  return {{.groups = 24, .group_size = 1, .length = 5000, .cu_seqlens = {0, 3000, 3001, 8001, 17001, 20000}},
          {.groups = 3, .group_size = 7, .length = 2048, .cu_seqlens = {0, 60, 180, 430, 930, 1930, 3930, 3990, 6038}},
          {.groups = 3, .group_size = 7, .length = 40000, .cu_seqlens = {0, 40000, 60000, 72000}},
          {.groups = 40, .group_size = 1, .length = 70000, .cu_seqlens = {0, 5000, 75000}, .q = false, .k = false},
          {.groups = 1, .group_size = 16, .length = 300000, .cu_seqlens = {0, 130000, 430000}, .q = false},
          {.groups = 8, .group_size = 1, .length = 1000000, .cu_seqlens = {0, 200000, 1200000}, .k = false}};
}

TEST_P(DevicesFftConv, EqualsItselfInFloat64OnDocumentsOfEveryPowerOfTwo) {
  // float32 has its own kernels, float64 uses cuFFT.
  if (GetParam() == DType::f64) return;
  for (const Pack& pack : packs_of_every_power_of_two()) {
    SCOPED_TRACE(pack.name());
    const Tensors in = inputs(cpu(), pack, GetParam(), 2);
    Tensors precise;
    for (const auto& [name, tensor] : in) precise[name] = converted(cpu(), tensor, DType::f64);
    const Tensors got = on_gpu(pack, in), again = on_gpu(pack, in), want = on_gpu(pack, precise);
    for (const char* name : results) {
      EXPECT_LE(relative_error(values_of(view(got, name)), values_of(view(want, name))),
                GetParam() == DType::f32 ? 3e-6 : 4e-3)
          << name;
      EXPECT_TRUE(same_bits(view(got, name), view(again, name))) << name << " differs from call to call";
    }
  }
}

TEST_P(DevicesFftConv, HasTheSameBitsWithKeptSpectra) {
  std::vector<Pack> packs = packs_of_every_power_of_two();
  packs.push_back({.groups = 5, .group_size = 3, .length = 30, .cu_seqlens = {0, 60, 9000}});
  for (Pack& pack : packs) {
    SCOPED_TRACE(pack.name());
    const Tensors in = inputs(cpu(), pack, GetParam(), 3), want = on_gpu(pack, in);
    pack.keeps = true;
    const Tensors got = on_gpu(pack, in);
    for (const char* name : results) EXPECT_TRUE(same_bits(view(got, name), view(want, name))) << name;
  }
}

TEST_P(DevicesFftConv, KeepsTransformedColumnsOfTheFourStepFftOnly) {
  const auto values = [](const Stream& stream, std::vector<std::int64_t> cu_seqlens, DType dtype) {
    const std::int64_t tokens = cu_seqlens.back();
    const SegmentsView segments{.cu_seqlens = cu_seqlens.data(),
                                .count = std::ssize(cu_seqlens) - 1,
                                .tokens = tokens,
                                .host = cu_seqlens.data()};
    return fft_conv_spectra_values(stream,
                                   {.v = TensorView{.dtype = dtype, .shape = {tokens, 6}}, .segments = segments},
                                   TensorView{.dtype = dtype, .shape = {3, tokens}});
  };
  if (GetParam() == DType::f64) {
    EXPECT_EQ(values(gpu(), {0, 5000}, GetParam()), 0);
    return;
  }
  EXPECT_EQ(values(cpu(), {0, 5000}, GetParam()), 0);
  EXPECT_EQ(values(gpu(), {0, 500, 600, 2600}, GetParam()), 0) << "shorter documents stay in a block, or use cuFFT";
  EXPECT_EQ(values(gpu(), {0, 5000}, GetParam()), 2 * 8192 * (6 + 3));
  EXPECT_EQ(values(gpu(), {0, 5000, 5100, 11100, 14100}, GetParam()), 2 * (8192 * (2 * 6 + 3) + 4096 * (6 + 3)));
}

TEST_P(DevicesFftConv, AcceptsThousandsOfDocumentsOfOneToken) {
  expect_equal_to_the_cpu({.groups = 7, .group_size = 3, .length = 5, .cu_seqlens = equal_documents(9000, 1)}, 1);
}

TEST_P(DevicesFftConv, KeepsNonFiniteValuesInTheirDocument) {
  for (const std::int64_t group_size : {1, 5})
    for (const double poison : {std::nan(""), std::numeric_limits<double>::infinity()})
      for (const char* where : {"q", "k", "v", "d_y"}) {
        const Pack pack{.groups = 8, .group_size = group_size, .length = 80, .cu_seqlens = {0, 60, 120, 180, 230, 231}};
        const Tensors in = inputs(cpu(), pack, GetParam(), 1);
        const Tensors clean = on_gpu(pack, in);
        const TensorView target = view(in, where);
        for (const std::int64_t t : {60, 90, 119})
          assign(target.slice_rows(t, 1), std::vector<double>(static_cast<std::size_t>(target.columns()), poison));
        const Tensors out = on_gpu(pack, in);
        for (const char* name : {"y", "d_q", "d_k", "d_v"})
          for (const auto& [from, count] : {std::pair{0, 60}, std::pair{120, 111}})
            EXPECT_TRUE(same_bits(view(out, name).slice_rows(from, count), view(clean, name).slice_rows(from, count)))
                << poison << " in " << where << ", " << name;
      }
}

TEST_P(DevicesFftConv, KeepsNonFiniteValuesInTheirLongDocument) {
  for (const bool keeps : {false, true})
    for (const std::int64_t group_size : {1, 3})
      for (const char* where : {"v", "d_y"}) {
        const Pack pack{.groups = 6,
                        .group_size = group_size,
                        .length = 20000,
                        .cu_seqlens = {0, 9000, 29000, 38000, 43000},
                        .keeps = keeps};
        const Tensors in = inputs(cpu(), pack, GetParam(), 1), clean = on_gpu(pack, in);
        const TensorView row = view(in, where).slice_rows(15000, 1);
        assign(row, std::vector<double>(static_cast<std::size_t>(row.columns()), std::nan("")));
        const Tensors out = on_gpu(pack, in);
        for (const char* name : {"y", "d_q", "d_k", "d_v"})
          for (const auto& [from, count] : {std::pair{0, 9000}, std::pair{29000, 14000}})
            EXPECT_TRUE(same_bits(view(out, name).slice_rows(from, count), view(clean, name).slice_rows(from, count)))
                << where << ", " << name;
      }
}

TEST_P(DevicesFftConv, AcceptsAnEmptyRun) {
  const std::vector<std::int64_t> none{0};
  expect_equal_to_the_cpu({.groups = 3, .group_size = 2, .length = 4, .cu_seqlens = none}, 1);
}

TEST_P(DevicesFftConv, ModalSpectrumAndItsBackwardEqualTheCpu) {
  if (GetParam() == DType::bf16) return;  // filters are never stored in bf16
  const double limit = GetParam() == DType::f64 ? 1e-11 : 3e-6;
  for (std::uint64_t seed = 0; seed < cases(100); ++seed) {
    RandomChoices choose(seed);
    const std::int64_t channels = choose.number(1, 300), modes = choose.chance(50) ? 16 : choose.number(1, 40),
                       length = choose.chance(50) ? choose.number(1, 40) : choose.number(41, 100000),
                       rows = choose.number(1, 300), first = choose.chance(30) ? 0 : choose.number(-5, 4 * length),
                       step = choose.chance(50) ? 4 * choose.number(1, 8) : choose.number(-3, 3);
    SCOPED_TRACE(fmt::format("seed {}: {} channels, {} modes, {} taps, {} rows from {} by {}", seed, channels, modes,
                             length, rows, first, step));
    const double low = choose.chance(50) ? -6 : -14, high = choose.chance(80) ? 0 : 3;
    const auto made = [&](Shape shape, std::uint64_t of, double from = -1, double to = 1) {
      return random_tensor(cpu(), GetParam(), shape, 10 * seed + of, from, to);
    };
    Tensors want;
    want["residues"] = made({channels, modes}, 1);
    want["log_rates"] = made({channels, modes}, 2, low, high);
    want["d_y"] = made({rows, channels, 2}, 3);
    want["y"] = made({rows, channels, 2}, 4);
    want["d_residues"] = made({channels, modes}, 5);
    want["d_log_rates"] = made({channels, modes}, 6);
    const auto run = [&](const Stream& stream, const Tensors& all) {
      modal_spectrum(stream, {.residues = view(all, "residues"),
                              .log_rates = view(all, "log_rates"),
                              .length = length,
                              .first = first,
                              .step = step,
                              .y = view(all, "y")});
      modal_spectrum_backward(stream, {.residues = view(all, "residues"),
                                       .log_rates = view(all, "log_rates"),
                                       .length = length,
                                       .first = first,
                                       .step = step,
                                       .d_y = view(all, "d_y"),
                                       .d_residues = view(all, "d_residues"),
                                       .d_log_rates = view(all, "d_log_rates")});
    };
    Tensors got[2];
    for (Tensors& back : got) {
      Tensors there;
      for (const auto& [name, tensor] : want) there[name] = to_gpu(tensor);
      run(gpu(), there);
      for (const auto& [name, tensor] : there) back[name] = to_cpu(tensor);
    }
    run(cpu(), want);
    for (const char* name : {"y", "d_residues", "d_log_rates"}) {
      expect_close(view(got[0], name), view(want, name), limit, name);
      EXPECT_TRUE(same_bits(view(got[0], name), view(got[1], name))) << name << " differs from call to call";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DevicesFftConv, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

}  // namespace
}  // namespace causeway::test

#include "kernels/blocked_conv.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/activation.hpp"
#include "tests/support/packed_operator.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

struct Convolution {
  std::string name;
  std::int64_t groups, group_size, length, block;
  std::vector<std::int64_t> cu_seqlens;
  bool gates = true, skip = true;
};

/// operators.md's formula.
Values reference(const Convolution& c, const Values& in) {
  const std::int64_t D = c.groups * c.group_size, T = c.cu_seqlens.back();
  const auto size = static_cast<std::size_t>(T * D);
  const auto at = [&](const char* name, std::int64_t i, double otherwise) { return in.contains(name) ? in.at(name)[static_cast<std::size_t>(i)] : otherwise; };
  Values out;
  for (const char* name : {"y", "d_q", "d_k", "d_v"}) out[name].resize(size);
  out["d_taps"].resize(static_cast<std::size_t>(c.groups * c.length));
  out["d_skip"].resize(static_cast<std::size_t>(D));
  std::vector<double> d_kv(size);
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s)
    for (std::int64_t t = c.cu_seqlens[s]; t < c.cu_seqlens[s + 1]; ++t)
      for (std::int64_t d = 0; d < D; ++d) {
        const std::int64_t i = t * D + d, tap = d / c.group_size * c.length;
        const auto kv = [&](std::int64_t lag) { return at("k", i - lag * D, 1) * at("v", i - lag * D, 0); };
        const double skip = at("skip", d, 0), dc = at("d_y", i, 0) * at("q", i, 1);
        double sum = skip * kv(0);
        d_kv[static_cast<std::size_t>(i)] += skip * dc;
        for (std::int64_t j = 0; j < std::min(c.length, t - c.cu_seqlens[s] + 1); ++j) {
          sum += at("taps", tap + j, 0) * kv(j);
          d_kv[static_cast<std::size_t>(i - j * D)] += at("taps", tap + j, 0) * dc;
          out["d_taps"][static_cast<std::size_t>(tap + j)] += dc * kv(j);
        }
        out["d_skip"][static_cast<std::size_t>(d)] += dc * kv(0);
        out["y"][static_cast<std::size_t>(i)] = at("q", i, 1) * sum;
        out["d_q"][static_cast<std::size_t>(i)] = at("d_y", i, 0) * sum;
      }
  for (std::int64_t i = 0; i < T * D; ++i) {
    out["d_k"][static_cast<std::size_t>(i)] = d_kv[static_cast<std::size_t>(i)] * at("v", i, 0);
    out["d_v"][static_cast<std::size_t>(i)] = d_kv[static_cast<std::size_t>(i)] * at("k", i, 1);
  }
  for (const char* name : {"q", "k", "skip"})
    if (!in.contains(name)) out.erase(std::string("d_") + name);
  return out;
}

/// Runs cut at `cuts`, each seeing what came before through its halo alone, the halo's gradient going back through the product's gates.
void run(const Convolution& c, const Stream& stream, const Views& in, const Views& out, const Segments& segments, std::vector<std::int64_t> cuts) {
  const DType dtype = view(in, "v").dtype;
  const std::int64_t reach = c.length - 1, D = c.groups * c.group_size;
  cuts.push_back(segments.tokens());
  std::int64_t begin = 0;
  for (const std::int64_t end : cuts) {
    const auto cu_seqlens = segments.slice(begin, end);
    const SegmentsView documents = segments_view(cu_seqlens, end - begin);
    Tensor halo, d_halo;
    std::int64_t before = 0;  // rows of the halo that a document reaches; the others hold NaN
    if (documents.continues_from_left()) {
      before = std::min(reach, -cu_seqlens[0]);
      halo = Tensor(stream, dtype, {reach, D});
      d_halo = Tensor(stream, dtype, {reach, D});
      fill(stream, {.value = std::nan(""), .y = halo});
      fill(stream, {.value = std::nan(""), .y = d_halo});
      const TensorView nearest = halo.view().slice_rows(reach - before, before);
      if (c.gates) multiply(stream, {.a = rows(in, "k", begin - before, begin), .b = rows(in, "v", begin - before, begin), .y = nearest});
      else scale(stream, {.x = rows(in, "v", begin - before, begin), .y = nearest});
    }
    const GatedConvInputs inputs{.q = rows(in, "q", begin, end), .k = rows(in, "k", begin, end), .v = rows(in, "v", begin, end),
                                 .skip = view(in, "skip"), .segments = documents};
    blocked_conv_forward(stream, {.in = inputs, .halo = halo, .taps = view(in, "taps"), .block = c.block, .y = rows(out, "y", begin, end)});
    blocked_conv_backward(stream, {.in = inputs,
                                   .halo = halo,
                                   .taps = view(in, "taps"),
                                   .block = c.block,
                                   .gradients = {.d_y = rows(in, "d_y", begin, end), .d_q = rows(out, "d_q", begin, end),
                                                 .d_k = rows(out, "d_k", begin, end), .d_v = rows(out, "d_v", begin, end), .d_skip = view(out, "d_skip")},
                                   .d_halo = d_halo,
                                   .d_taps = view(out, "d_taps")});
    if (before > 0) {
      const TensorView returned = d_halo.view().slice_rows(reach - before, before);
      if (c.gates) {
        multiply(stream, {.a = returned, .b = rows(in, "v", begin - before, begin), .accumulate = true, .y = rows(out, "d_k", begin - before, begin)});
        multiply(stream, {.a = returned, .b = rows(in, "k", begin - before, begin), .accumulate = true, .y = rows(out, "d_v", begin - before, begin)});
      } else {
        scale(stream, {.x = returned, .accumulate = true, .y = rows(out, "d_v", begin - before, begin)});
      }
      EXPECT_EQ(norm(values_of(d_halo.view().slice_rows(0, reach - before))), 0) << "a gradient for rows no document reaches";
    }
    begin = end;
  }
}

PackedCase packed(const Convolution& c) {
  const std::int64_t D = c.groups * c.group_size, T = c.cu_seqlens.back();
  PackedCase result{.name = c.name, .cu_seqlens = c.cu_seqlens, .inputs = {{"d_y", {T, D}}, {"v", {T, D}}}, .linear_in = "v", .run = {}, .reference = {}};
  if (c.gates) result.inputs.insert(result.inputs.end(), {{"q", {T, D}}, {"k", {T, D}}});
  result.inputs.push_back({.name = "taps", .shape = {c.groups, c.length}, .tokenwise = false});
  if (c.skip) result.inputs.push_back({.name = "skip", .shape = {D}, .tokenwise = false});
  result.run = [c](const Stream& stream, const Views& in, const Views& out, const Segments& segments, const std::vector<std::int64_t>& cuts) {
    run(c, stream, in, out, segments, cuts);
  };
  result.reference = [c](const Values& in) { return reference(c, in); };
  return result;
}

std::vector<PackedCase> packed(const std::vector<Convolution>& convolutions) {
  std::vector<PackedCase> result;
  for (const Convolution& c : convolutions) result.push_back(packed(c));
  return result;
}

const std::vector<PackedCase> cases = packed({
    {"SE, one document", 4, 4, 7, 64, {0, 96}},
    {"SE, documents of every length up to the taps", 2, 3, 7, 8, {0, 1, 3, 6, 10, 15, 21, 28, 36, 60}},
    {"four taps, no skip", 5, 2, 4, 16, {0, 34, 64, 75}, true, false},
    {"one-token documents", 5, 1, 4, 4, {0, 1, 2, 3, 4, 5, 6, 7}},
    {"one tap", 3, 3, 1, 16, {0, 9, 70}},
    {"more taps than tokens", 2, 2, 128, 32, {0, 60}},
    {"MR, documents around the taps", 4, 2, 128, 64, {0, 100, 229, 230, 520}},
    {"MR, groups of fifteen", 2, 15, 128, 64, {0, 5, 128, 218, 300}},
    {"no gates", 3, 5, 9, 64, {0, 20, 90}, false, true},
    {"neither gates nor skip, one channel", 1, 1, 3, 5, {0, 11, 40}, false, false},
    {"a block of one", 2, 9, 6, 1, {0, 17, 31}},
    {"channels beyond a strip", 10, 16, 7, 64, {0, 62, 190, 192, 200}},
    {"a filter as long as the document", 6, 1, 150, 64, {0, 150}},
    {"no token", 2, 2, 4, 64, {0}},
    {"no channel", 0, 4, 7, 64, {0, 20}},
});

TEST(BlockedConv, EqualsTheFormulaInEveryTypeAndShape) { expect_equal_to_the_formula(cases); }
TEST(BlockedConv, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases); }
TEST(BlockedConv, BackwardIsTheAdjointOfForward) { expect_backward_is_the_adjoint(cases); }
TEST(BlockedConv, PackedEqualsOneDocumentAtATime) { expect_packed_equal_to_one_document_at_a_time(cases); }
TEST(BlockedConv, CutAnywhereEqualsOneRun) { expect_cut_anywhere_equal_to_one_run(cases); }
TEST(BlockedConv, TakesAndGivesColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(BlockedConv, NonFiniteValuesStayInTheirDocument) {
  expect_non_finite_values_stay_in_their_document(packed(Convolution{"SE", 3, 7, 7, 16, {0, 30, 60, 90}}), {{}, {29}, {31}, {59}, {60}, {61}});
  expect_non_finite_values_stay_in_their_document(packed(Convolution{"MR", 2, 8, 70, 32, {0, 50, 80, 140}}), {{}, {60}, {85}});
}

TEST(BlockedConv, GivesTheSameBitsOnAnyNumberOfThreads) {
  Convolution c{"long", 10, 30, 20, 16, {0}};
  for (std::int64_t end = 1; end < 5000; end += 1 + end / 7) c.cu_seqlens.push_back(end);
  expect_same_bits_on_any_number_of_threads(packed(c));
}

TEST(BlockedConv, IsExactForAnyBlockAndNumberOfTaps) {
  const Stream stream;
  for (const std::int64_t taps : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100})
    for (const std::int64_t block : {1, 2, 3, 7, 8, 16, 17, 32, 64, 200}) {
      SCOPED_TRACE(fmt::format("{} taps in blocks of {}", taps, block));
      const PackedCase c = packed(Convolution{"", 2, 3, taps, block, {0, 40, 47, 130}});
      const NamedTensors in = inputs_of(c, stream, DType::f64);
      const Values got = run_case(c, stream, in).values(), want = c.reference(in.values());
      for (const auto& [name, values] : want) EXPECT_LE(relative_error(got.at(name), values), 1e-14) << name;
    }
}

TEST(BlockedConv, NeedsThreeStagesWhereTheTapsExceedABlockByTwo) {
  EXPECT_EQ(blocked_conv_stages(1, 16), 1);
  EXPECT_EQ(blocked_conv_stages(2, 16), 2);
  EXPECT_EQ(blocked_conv_stages(17, 16), 2);
  EXPECT_EQ(blocked_conv_stages(18, 16), 3);
  EXPECT_EQ(blocked_conv_stages(32, 16), 3);
  EXPECT_EQ(blocked_conv_stages(128, 64), 3);
}

TEST(BlockedConv, ATokenDoesNotSeeWhatIsLaterOrOutOfReach) {
  const Stream stream;
  const Convolution c{"one document", 1, 5, 9, 8, {0, 64}};
  const PackedCase of = packed(c);
  const NamedTensors in = inputs_of(of, stream, DType::f64);
  constexpr std::int64_t bad = 29;
  for (std::int64_t d = 0; d < 5; ++d) in["v"].row<double>(bad)[d] = in["d_y"].row<double>(bad)[d] = std::nan("");
  const NamedTensors out = run_case(of, stream, in);
  for (std::int64_t t = 0; t < 64; ++t) {
    EXPECT_EQ(std::isnan(out["y"].row<double>(t)[2]), t >= bad && t < bad + 9) << t;
    EXPECT_EQ(std::isnan(out["d_v"].row<double>(t)[2]), t <= bad && t > bad - 9) << t;
  }
}

TEST(BlockedConv, TakesTapsAndSkipInTheAccumulatorTypeToo) {
  const Stream stream;
  PackedCase c = cases[0];
  for (PackedInput& input : c.inputs) input.accumulator = !input.tokenwise;
  expect_equal_to_the_formula({c});
}

TEST(BlockedConv, RefusesAMissingHaloAndShapesThatDoNotFit) {
  const Stream stream;
  const Tensor v = random_tensor(stream, DType::f32, {12, 4}, 1), y(stream, DType::f32, {12, 4}), narrow(stream, DType::f32, {12, 3});
  const Tensor taps = random_tensor(stream, DType::f32, {2, 3}, 2), three = random_tensor(stream, DType::f32, {3, 3}, 2);
  const std::vector<std::int64_t> whole{0, 12}, continued{-3, 12};
  const auto call = [&](const std::vector<std::int64_t>& cu_seqlens, TensorView filter, TensorView to) {
    blocked_conv_forward(stream, {.in = {.q = {}, .k = {}, .v = v, .skip = {}, .segments = segments_view(cu_seqlens, 12)}, .halo = {}, .taps = filter, .y = to});
  };
  EXPECT_NO_THROW(call(whole, taps, y));
  EXPECT_THROW(call(continued, taps, y), Error);
  EXPECT_THROW(call(whole, three, y), Error);
  EXPECT_THROW(call(whole, taps, narrow), Error);
}

}  // namespace
}  // namespace causeway

#include "kernels/blocked_conv.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kernels/activation.hpp"
#include "tests/support/gated_convolution.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

struct Convolution {
  GatedConvolution of;
  std::int64_t block = 64;
};

/// The pack divided into runs at `cuts`. A run gets earlier rows only through its halo, and the gradient of the halo is
/// propagated through the product k⊙v.
void run(const Convolution& c, const Stream& stream, const Views& in, const Views& out, const Segments& segments,
         const std::vector<std::int64_t>& cuts) {
  const DType dtype = view(in, "v").dtype;
  const std::int64_t reach = c.of.length - 1, D = c.of.channels();
  for (const PackedRun& run : runs_of(segments, cuts)) {
    const std::int64_t begin = run.begin, end = run.end;
    Tensor halo, d_halo;
    std::int64_t before = 0;  // rows of the halo that a document reaches; the other rows hold NaN
    if (run.segments().continues_from_left()) {
      before = std::min(reach, -run.cu_seqlens[0]);
      halo = Tensor(stream, dtype, {reach, D});
      d_halo = Tensor(stream, dtype, {reach, D});
      fill(stream, {.value = std::nan(""), .y = halo});
      fill(stream, {.value = std::nan(""), .y = d_halo});
      const TensorView nearest = halo.view().slice_rows(reach - before, before);
      if (c.of.gates)
        multiply(stream,
                 {.a = rows(in, "k", begin - before, begin), .b = rows(in, "v", begin - before, begin), .y = nearest});
      else
        scale(stream, {.x = rows(in, "v", begin - before, begin), .y = nearest});
    }
    const GatedConvInputs inputs = gated_inputs(in, begin, end, run.segments());
    blocked_conv_forward(
        stream,
        {.in = inputs, .halo = halo, .taps = view(in, "taps"), .block = c.block, .y = rows(out, "y", begin, end)});
    blocked_conv_backward(stream, {.in = inputs,
                                   .halo = halo,
                                   .taps = view(in, "taps"),
                                   .block = c.block,
                                   .gradients = gated_gradients(in, out, begin, end),
                                   .d_halo = d_halo,
                                   .d_taps = view(out, "d_taps")});
    if (before > 0) {
      const TensorView returned = d_halo.view().slice_rows(reach - before, before);
      if (c.of.gates) {
        multiply(stream, {.a = returned,
                          .b = rows(in, "v", begin - before, begin),
                          .accumulate = true,
                          .y = rows(out, "d_k", begin - before, begin)});
        multiply(stream, {.a = returned,
                          .b = rows(in, "k", begin - before, begin),
                          .accumulate = true,
                          .y = rows(out, "d_v", begin - before, begin)});
      } else {
        scale(stream, {.x = returned, .accumulate = true, .y = rows(out, "d_v", begin - before, begin)});
      }
      EXPECT_EQ(norm(values_of(d_halo.view().slice_rows(0, reach - before))), 0)
          << "a gradient of rows that no document reaches";
    }
  }
}

PackedCase packed(const Convolution& c) {
  PackedCase result = packed(c.of);
  result.run = std::bind_front(run, c);
  return result;
}

const std::vector<PackedCase> cases = packed_cases<Convolution>({
    {{"SE, one document", 4, 4, 7, {0, 96}}},
    {{"SE, documents of every length up to the taps", 2, 3, 7, {0, 1, 3, 6, 10, 15, 21, 28, 36, 60}}, 8},
    {{"four taps, no skip", 5, 2, 4, {0, 34, 64, 75}, true, false}, 16},
    {{"one-token documents", 5, 1, 4, {0, 1, 2, 3, 4, 5, 6, 7}}, 4},
    {{"one tap", 3, 3, 1, {0, 9, 70}}, 16},
    {{"more taps than tokens", 2, 2, 128, {0, 60}}, 32},
    {{"MR, documents around the taps", 4, 2, 128, {0, 100, 229, 230, 520}}},
    {{"MR, groups of fifteen", 2, 15, 128, {0, 5, 128, 218, 300}}},
    {{"no gates", 3, 5, 9, {0, 20, 90}, false, true}},
    {{"neither gates nor skip, one channel", 1, 1, 3, {0, 11, 40}, false, false}, 5},
    {{"a block of one", 2, 9, 6, {0, 17, 31}}, 1},
    {{"channels beyond a strip", 10, 16, 7, {0, 62, 190, 192, 200}}},
    {{"a filter as long as the document", 6, 1, 150, {0, 150}}},
    {{"no token", 2, 2, 4, {0}}},
    {{"no channel", 0, 4, 7, {0, 20}}},
});

TEST(BlockedConv, EqualsTheFormulaInEveryTypeAndShape) { expect_equal_to_the_formula(cases); }
TEST(BlockedConv, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases); }
TEST(BlockedConv, BackwardIsTheAdjointOfForward) { expect_backward_is_the_adjoint(cases); }
TEST(BlockedConv, PackedEqualsOneDocumentAtATime) { expect_packed_equal_to_one_document_at_a_time(cases); }
TEST(BlockedConv, CutAnywhereEqualsOneRun) { expect_cut_anywhere_equal_to_one_run(cases); }
TEST(BlockedConv, WritesResultsAndAddsToParameterGradients) {
  expect_results_are_written_and_parameter_gradients_added_to(cases);
}
TEST(BlockedConv, AcceptsColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(BlockedConv, NonFiniteValuesStayInTheirDocument) {
  expect_non_finite_values_stay_in_their_document(packed({{"SE", 3, 7, 7, {0, 30, 60, 90}}, 16}),
                                                  {{}, {29}, {31}, {59}, {60}, {61}});
  expect_non_finite_values_stay_in_their_document(packed({{"MR", 2, 8, 70, {0, 50, 80, 140}}, 32}), {{}, {60}, {85}});
}

TEST(BlockedConv, GivesTheSameBitsOnAnyNumberOfThreads) {
  expect_same_bits_on_any_number_of_threads(packed({{"long", 10, 30, 20, growing_documents(5000)}, 16}), {2500});
}

TEST(BlockedConv, IsExactForAnyBlockAndNumberOfTaps) {
  const Stream stream;
  for (const std::int64_t taps : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 100})
    for (const std::int64_t block : {1, 2, 3, 7, 8, 16, 17, 32, 64, 200}) {
      SCOPED_TRACE(fmt::format("{} taps in blocks of {}", taps, block));
      const PackedCase c = packed({{"", 2, 3, taps, {0, 40, 47, 130}}, block});
      const NamedTensors in = inputs_of(c, stream, DType::f64);
      const Values got = run_case(c, stream, in).values(), want = c.reference(in.values());
      for (const auto& [name, values] : want) EXPECT_LE(relative_error(got.at(name), values), 1e-14) << name;
    }
}

TEST(BlockedConv, NeedsThreeStagesIfTheTapsExceedABlockByTwo) {
  EXPECT_EQ(blocked_conv_stages(1, 16), 1);
  EXPECT_EQ(blocked_conv_stages(2, 16), 2);
  EXPECT_EQ(blocked_conv_stages(17, 16), 2);
  EXPECT_EQ(blocked_conv_stages(18, 16), 3);
  EXPECT_EQ(blocked_conv_stages(32, 16), 3);
  EXPECT_EQ(blocked_conv_stages(128, 64), 3);
}

TEST(BlockedConv, ATokenDependsOnlyOnEarlierTokensWithinReach) {
  expect_a_token_depends_only_on_earlier_tokens(packed({{"one document", 1, 5, 9, {0, 64}}, 8}), 9);
}

TEST(BlockedConv, AcceptsTapsAndSkipInTheAccumulatorType) {
  const Stream stream;
  PackedCase c = cases[0];
  for (PackedInput& input : c.inputs) input.accumulator = !input.tokenwise;
  expect_equal_to_the_formula({c});
}

TEST(BlockedConv, RefusesAMissingHaloAndShapesThatDoNotFit) {
  const Stream stream;
  const Tensor v = random_tensor(stream, DType::f32, {12, 4}, 1), y(stream, DType::f32, {12, 4}),
               narrow(stream, DType::f32, {12, 3});
  const Tensor taps = random_tensor(stream, DType::f32, {2, 3}, 2),
               three = random_tensor(stream, DType::f32, {3, 3}, 2);
  const std::vector<std::int64_t> whole{0, 12}, continued{-3, 12};
  const auto call = [&](const std::vector<std::int64_t>& cu_seqlens, TensorView filter, TensorView to) {
    blocked_conv_forward(stream,
                         {.in = {.q = {}, .k = {}, .v = v, .skip = {}, .segments = segments_view(cu_seqlens, 12)},
                          .halo = {},
                          .taps = filter,
                          .y = to});
  };
  EXPECT_NO_THROW(call(whole, taps, y));
  EXPECT_THROW(call(continued, taps, y), Error);
  EXPECT_THROW(call(whole, three, y), Error);
  EXPECT_THROW(call(whole, taps, narrow), Error);
}

}  // namespace
}  // namespace causeway

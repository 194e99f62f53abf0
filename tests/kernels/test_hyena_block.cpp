#include "kernels/hyena_block.hpp"

#include <gtest/gtest.h>

#include "kernels/activation.hpp"
#include "kernels/blocked_conv.hpp"
#include "kernels/causal_conv.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/modal_conv.hpp"
#include "tests/support/hyena_block.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

const std::vector<PackedCase> cases = packed_cases<HyenaBlock>({
    {"SE, one document", 4, 4, 3, 7, 0, {0, 60}},
    {"SE, documents of every length up to the reach", 2, 3, 3, 7, 0, {0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55}},
    {"SE, four taps, no skip, another featurizer", 5, 2, 4, 4, 0, {0, 34, 64, 75}, false},
    {"one-token documents", 5, 1, 3, 4, 0, {0, 1, 2, 3, 4, 5, 6, 7}},
    {"one tap", 3, 3, 3, 1, 0, {0, 9, 40}},
    {"a featurizer of one tap", 3, 3, 1, 5, 0, {0, 9, 40}},
    {"one tap each", 3, 3, 1, 1, 0, {0, 9, 20}},
    {"MR, documents around the taps", 2, 2, 3, 128, 0, {0, 100, 231, 232, 400}},
    {"MR, groups of fifteen", 2, 15, 3, 128, 0, {0, 5, 128, 218, 300}},
    {"LI, one document", 5, 1, 3, 0, 3, {0, 90}},
    {"LI, by scans", 5, 1, 3, 0, 3, {0, 1, 3, 40, 90}, true, Carried::by_scans},
    {"LI, documents of every length, no skip", 3, 1, 3, 0, 2, {0, 1, 3, 6, 10, 15, 21, 28, 36, 45}, false},
    {"LI, sixteen modes, a vector and more of channels", 17, 1, 4, 0, 16, {0, 62, 100}},
    {"LI, a featurizer of one tap", 2, 1, 1, 0, 2, {0, 7, 30}},
    {"no token", 2, 2, 3, 4, 0, {0}},
    {"no token, LI", 2, 1, 3, 0, 4, {0}},
});

TEST(HyenaBlock, EqualsTheFormulaInEveryType) {
  expect_equal_to_the_formula(cases, {.f64 = 1e-13, .f32 = 3e-6, .bf16 = 1e-2});
}
TEST(HyenaBlock, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases); }
TEST(HyenaBlock, BackwardIsTheAdjointOfForward) { expect_backward_is_the_adjoint(cases); }
TEST(HyenaBlock, PackedEqualsOneDocumentAtATime) {
  expect_packed_equal_to_one_document_at_a_time(cases, {.f64 = 1e-13, .f32 = 3e-6, .bf16 = 1e-2});
}
TEST(HyenaBlock, CutAnywhereEqualsOneRun) { expect_cut_anywhere_equal_to_one_run(cases); }
TEST(HyenaBlock, WritesResultsAndAddsToParameterGradients) {
  expect_results_are_written_and_parameter_gradients_added_to(cases);
}
TEST(HyenaBlock, AcceptsColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(HyenaBlock, NonFiniteValuesStayInTheirDocument) {
  const std::vector<std::vector<std::int64_t>> cuts{{}, {29}, {31}, {33}, {59}, {60}, {61}};
  expect_non_finite_values_stay_in_their_document(packed(HyenaBlock{"SE", 3, 7, 3, 7, 0, {0, 30, 60, 90}}), cuts);
  expect_non_finite_values_stay_in_their_document(packed(HyenaBlock{"MR", 2, 8, 3, 70, 0, {0, 50, 80, 140}}),
                                                  {{}, {60}, {85}});
  for (const Carried carried : {Carried::by_summaries, Carried::by_scans})
    expect_non_finite_values_stay_in_their_document(
        packed(HyenaBlock{"LI", 7, 1, 3, 0, 3, {0, 30, 60, 90}, true, carried}), cuts);
}

TEST(HyenaBlock, GivesTheSameBitsOnAnyNumberOfThreads) {
  expect_same_bits_on_any_number_of_threads(packed(HyenaBlock{"taps", 4, 10, 3, 20, 0, growing_documents(3000)}),
                                            {1500});
  expect_same_bits_on_any_number_of_threads(packed(HyenaBlock{"modes", 40, 1, 3, 0, 4, growing_documents(3000)}),
                                            {1500});
}

TEST(HyenaBlock, ATokenDependsOnlyOnEarlierTokensWithinReach) {
  expect_a_token_depends_only_on_earlier_tokens(packed(HyenaBlock{"taps", 1, 5, 3, 9, 0, {0, 64}}), 11);
  expect_a_token_depends_only_on_earlier_tokens(packed(HyenaBlock{"modes", 5, 1, 3, 0, 2, {0, 64}}));
}

/// What a model computes: the featurizer of [T, 3D] as one operator, then the gated convolution of its columns.
void run_unfused(const HyenaBlock& c, const Stream& stream, const Views& in, const Views& out,
                 const Segments& segments) {
  const std::int64_t T = segments.tokens(), D = c.channels();
  const auto cu_seqlens = segments.slice(0, T);
  const SegmentsView documents = segments_view(cu_seqlens, T);
  const DType dtype = view(in, "q").dtype;
  const Tensor x(stream, dtype, {T, 3 * D}), f(stream, dtype, {T, 3 * D}), d_f(stream, dtype, {T, 3 * D}),
      d_x(stream, dtype, {T, 3 * D});
  const auto part = [&](TensorView of, std::int64_t i) { return of.slice_columns(i * D, D); };
  for (int i = 0; i < 3; ++i) scale(stream, {.x = view(in, block_parts[i]), .y = part(x, i)});
  causal_conv_forward(stream, {.x = x, .weight = view(in, "featurizer"), .segments = documents, .y = f});
  const GatedConvInputs gated{
      .q = part(f, 0), .k = part(f, 1), .v = part(f, 2), .skip = view(in, "skip"), .segments = documents};
  const GatedConvGradients back{.d_y = view(in, "d_y"),
                                .d_q = part(d_f, 0),
                                .d_k = part(d_f, 1),
                                .d_v = part(d_f, 2),
                                .d_skip = view(out, "d_skip")};
  if (c.taps > 0) {
    const TensorView taps = view(in, "taps");
    blocked_conv_forward(stream, {.in = gated, .halo = {}, .taps = taps, .y = view(out, "y")});
    blocked_conv_backward(
        stream,
        {.in = gated, .halo = {}, .taps = taps, .gradients = back, .d_halo = {}, .d_taps = view(out, "d_taps")});
  } else {
    const TensorView residues = view(in, "residues"), rates = view(in, "log_rates");
    const Tensor states(stream, rates.dtype, {ceil_div(T, modal_conv_block), D, c.modes});
    modal_conv_forward(stream,
                       {.in = gated, .residues = residues, .log_rates = rates, .y = view(out, "y"), .states = states});
    modal_conv_backward(stream, {.in = gated,
                                 .residues = residues,
                                 .log_rates = rates,
                                 .states = states,
                                 .gradients = back,
                                 .d_residues = view(out, "d_residues"),
                                 .d_log_rates = view(out, "d_log_rates")});
  }
  causal_conv_backward(stream, {.x = x,
                                .weight = view(in, "featurizer"),
                                .segments = documents,
                                .d_y = d_f,
                                .d_x = d_x,
                                .d_weight = view(out, "d_featurizer")});
  for (int i = 0; i < 3; ++i) scale(stream, {.x = part(d_x, i), .y = view(out, std::string("d_") + block_parts[i])});
}

TEST(HyenaBlock, HasTheBitsOfTheThreeOperatorsItIsMadeOf) {
  const Stream stream;
  for (const HyenaBlock& c :
       {HyenaBlock{"SE", 4, 16, 3, 7, 0, {0, 40, 41, 130}}, HyenaBlock{"MR", 3, 5, 3, 128, 0, {0, 70, 300}},
        HyenaBlock{"LI", 20, 1, 3, 0, 16, {0, 64, 65, 200}}})
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16}) {
      SCOPED_TRACE(fmt::format("{} {}", c.name, name_of(dtype)));
      PackedCase block = packed(c), unfused = block;
      unfused.run = [c](const Stream& on, const Views& in, const Views& out, const Segments& segments,
                        const std::vector<std::int64_t>&) { run_unfused(c, on, in, out, segments); };
      const NamedTensors in = inputs_of(block, stream, dtype);
      EXPECT_EQ(run_case(block, stream, in).values(), run_case(unfused, stream, in).values());
    }
}

TEST(HyenaBlock, TakesOneMatrixAsWellAsThree) {
  const Stream stream;
  const HyenaBlock c{"SE", 4, 4, 3, 7, 0, {0, 40, 41, 130}};
  const std::int64_t T = 130, D = c.channels();
  const PackedCase separate = packed(c);
  const NamedTensors in = inputs_of(separate, stream, DType::f32);
  const Tensor x(stream, DType::f32, {T, 3 * D}), d_x(stream, DType::f32, {T, 3 * D});
  const Values expected = run_case(separate, stream, in).values();
  PackedCase joined = separate;
  joined.run = [&](const Stream& on, const Views& of, const Views& out, const Segments& segments,
                   const std::vector<std::int64_t>& cuts) {
    Views columns = of, results = out;
    for (int i = 0; i < 3; ++i) {
      columns[block_parts[i]] = x.view().slice_columns(i * D, D);
      results[std::string("d_") + block_parts[i]] = d_x.view().slice_columns(i * D, D);
      scale(on, {.x = view(of, block_parts[i]), .y = columns[block_parts[i]]});
    }
    separate.run(on, columns, results, segments, cuts);
    for (const char* part : block_parts) {
      const std::string name = std::string("d_") + part;
      scale(on, {.x = results[name], .y = view(out, name)});
    }
  };
  EXPECT_EQ(run_case(joined, stream, in).values(), expected);
}

TEST(HyenaBlock, RefusesAMissingHaloTwoFiltersAndShapesThatDoNotFit) {
  const Stream stream;
  const auto random = [&](Shape shape) { return random_tensor(stream, DType::f32, shape, 1); };
  const Tensor x = random({12, 4}), y = random({12, 4}), featurizer = random({12, 3}), narrow = random({8, 3}),
               taps = random({2, 3}), modes = random({4, 2});
  const std::vector<std::int64_t> whole{0, 12}, continued{-3, 12};
  const auto call = [&](const std::vector<std::int64_t>& cu_seqlens, TensorView weights, TensorView filter,
                        TensorView modal) {
    hyena_block_forward(stream, {.in = {.q = x,
                                        .k = x,
                                        .v = x,
                                        .featurizer = weights,
                                        .taps = filter,
                                        .residues = modal,
                                        .log_rates = modal,
                                        .segments = segments_view(cu_seqlens, 12)},
                                 .y = y});
  };
  EXPECT_NO_THROW(call(whole, featurizer, taps, {}));
  EXPECT_NO_THROW(call(whole, featurizer, {}, modes));
  EXPECT_THROW(call(continued, featurizer, taps, {}), Error);
  EXPECT_THROW(call(whole, narrow, taps, {}), Error);
  EXPECT_THROW(call(whole, featurizer, taps, modes), Error);
  EXPECT_THROW(call(whole, featurizer, {}, {}), Error);
}

}  // namespace
}  // namespace causeway

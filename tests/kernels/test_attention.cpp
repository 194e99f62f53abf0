#include "kernels/attention.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/activation.hpp"
#include "tests/support/packed_operator.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

struct Heads {
  std::string name;
  std::int64_t heads, width;
  std::vector<std::int64_t> cu_seqlens;
};

/// The formula query by query: a softmax over all its keys, and its derivative by the chain rule.
Values reference(const Heads& c, const Values& in) {
  const std::int64_t H = c.heads, E = c.width, T = c.cu_seqlens.back();
  Values out;
  for (const char* name : {"y", "d_q", "d_k", "d_v"}) out[name].resize(static_cast<std::size_t>(T * H * E));
  const auto at = [&](std::int64_t t, std::int64_t h, std::int64_t e) {
    return static_cast<std::size_t>((t * H + h) * E + e);
  };
  const double scale = 1 / std::sqrt(static_cast<double>(E));
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s)
    for (std::int64_t t = c.cu_seqlens[s]; t < c.cu_seqlens[s + 1]; ++t)
      for (std::int64_t h = 0; h < H; ++h) {
        const std::int64_t start = c.cu_seqlens[s];
        const auto dot_of = [&](const char* a, std::int64_t i, const char* b, std::int64_t j) {
          double sum = 0;
          for (std::int64_t e = 0; e < E; ++e) sum += in.at(a)[at(i, h, e)] * in.at(b)[at(j, h, e)];
          return sum;
        };
        std::vector<double> weight;
        double sum = 0, delta = 0;
        for (std::int64_t j = start; j <= t; ++j) sum += weight.emplace_back(std::exp(scale * dot_of("q", t, "k", j)));
        for (std::int64_t j = start; j <= t; ++j) {
          double& p = weight[static_cast<std::size_t>(j - start)];
          p /= sum;
          delta += p * dot_of("d_y", t, "v", j);
          for (std::int64_t e = 0; e < E; ++e) {
            out["y"][at(t, h, e)] += p * in.at("v")[at(j, h, e)];
            out["d_v"][at(j, h, e)] += p * in.at("d_y")[at(t, h, e)];
          }
        }
        for (std::int64_t j = start; j <= t; ++j) {
          const double ds = weight[static_cast<std::size_t>(j - start)] * (dot_of("d_y", t, "v", j) - delta) * scale;
          for (std::int64_t e = 0; e < E; ++e) {
            out["d_q"][at(t, h, e)] += ds * in.at("k")[at(j, h, e)];
            out["d_k"][at(j, h, e)] += ds * in.at("q")[at(t, h, e)];
          }
        }
      }
  return out;
}

/// Combines every run of queries with every run of keys, in an order in which some queries have no key at first.
void run(const Stream& stream, const Views& in, const Views& out, const Segments& segments,
         std::vector<std::int64_t> cuts) {
  const TensorView q = view(in, "q");
  const DType dtype = q.dtype, accumulator = accumulator_of(dtype);
  const std::int64_t T = segments.tokens(), H = q.shape[1];
  cuts.push_back(T);
  cuts.insert(cuts.begin(), 0);
  const Tensor y(stream, accumulator, q.shape), lse(stream, accumulator, {T, H}), delta(stream, accumulator, {T, H});
  const Tensor d_q = Tensor::zeros(stream, accumulator, q.shape), d_k = Tensor::zeros(stream, accumulator, q.shape),
               d_v = Tensor::zeros(stream, accumulator, q.shape);
  const bool whole = cuts.size() == 2;
  for (const bool backwards : {false, true}) {
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
      for (std::size_t j = cuts.size() - 1; j-- > 0;) {
        const std::int64_t begin = cuts[i], end = cuts[i + 1], first_key = cuts[j], last_key = cuts[j + 1];
        const auto cu_seqlens = segments.slice(begin, end);
        const auto queries = [&](TensorView x) { return x.slice_rows(begin, end - begin); };
        const auto keys = [&](TensorView x) { return x.slice_rows(first_key, last_key - first_key); };
        const AttentionInputs pair{.q = queries(q),
                                   .k = keys(view(in, "k")),
                                   .v = keys(view(in, "v")),
                                   .key_offset = first_key - begin,
                                   .segments = segments_view(cu_seqlens, end - begin)};
        if (backwards)
          attention_backward(stream, {.in = pair,
                                      .accumulate = !whole,
                                      .lse = queries(lse),
                                      .delta = queries(delta),
                                      .d_y = queries(view(in, "d_y")),
                                      .d_q = whole ? view(out, "d_q") : queries(d_q),
                                      .d_k = whole ? view(out, "d_k") : keys(d_k),
                                      .d_v = whole ? view(out, "d_v") : keys(d_v)});
        else
          attention_forward(stream, {.in = pair,
                                     .accumulate = j + 2 < cuts.size(),
                                     .y = whole ? view(out, "y") : queries(y),
                                     .lse = queries(lse)});
      }
    if (!backwards) {
      if (!whole) scale(stream, {.x = y, .y = view(out, "y")});
      attention_delta(stream, {.y = whole ? view(out, "y") : y.view(), .d_y = view(in, "d_y"), .delta = delta});
    }
  }
  if (whole) return;
  scale(stream, {.x = d_q, .y = view(out, "d_q")});
  scale(stream, {.x = d_k, .y = view(out, "d_k")});
  scale(stream, {.x = d_v, .y = view(out, "d_v")});
}

PackedCase packed(const Heads& c) {
  const Shape shape{c.cu_seqlens.back(), c.heads, c.width};
  return {.name = c.name,
          .cu_seqlens = c.cu_seqlens,
          .inputs = {{"d_y", shape}, {"v", shape}, {"q", shape}, {"k", shape}},
          .linear_in = "v",
          .run = run,
          .reference = [c](const Values& in) { return reference(c, in); }};
}

const std::vector<PackedCase> cases = packed_cases<Heads>({
    {"one document", 2, 8, {0, 96}},
    {"documents of every length", 3, 4, {0, 1, 3, 6, 10, 15, 21, 28, 64, 129, 150}},
    {"one-token documents", 2, 2, {0, 1, 2, 3, 4}},
    {"one number a head", 2, 1, {0, 5, 12}},
    {"several blocks of queries and keys", 1, 16, {0, 30, 400}},
    {"wide heads", 2, 128, {0, 50, 80}},
    {"odd heads", 3, 7, {0, 12, 55, 70}},
    {"no token", 2, 4, {0}},
    {"no head", 0, 4, {0, 9}},
});

constexpr Tolerances limits{.f64 = 1e-13, .f32 = 3e-6, .bf16 = 6e-3};

TEST(Attention, EqualsTheFormulaInEveryTypeAndShape) { expect_equal_to_the_formula(cases, limits); }
TEST(Attention, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases); }
TEST(Attention, BackwardIsTheAdjointOfForward) { expect_backward_is_the_adjoint(cases); }
TEST(Attention, PackedEqualsOneDocumentAtATime) { expect_packed_equal_to_one_document_at_a_time(cases, limits); }
TEST(Attention, RunsOfQueriesOverRunsOfKeysEqualOnePair) { expect_cut_anywhere_equal_to_one_run(cases); }
TEST(Attention, WritesEveryResult) { expect_results_are_written_and_parameter_gradients_added_to(cases); }
TEST(Attention, AcceptsColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(Attention, NonFiniteValuesStayInTheirDocument) {
  expect_non_finite_values_stay_in_their_document(packed(Heads{"three documents", 2, 5, {0, 30, 55, 90}}),
                                                  {{}, {29}, {31}, {60}});
}

TEST(Attention, GivesTheSameBitsOnAnyNumberOfThreads) {
  expect_same_bits_on_any_number_of_threads(packed(Heads{"long", 5, 16, growing_documents(900, 3)}));
}

TEST(Attention, AQueryIgnoresLaterTokensOfItsDocument) {
  expect_a_token_depends_only_on_earlier_tokens(packed(Heads{"one document", 1, 4, {0, 90}}));
}

TEST(Attention, StaysFiniteForScoresBeyondTheRangeOfTheExponential) {
  const Stream stream;
  const PackedCase c = packed(Heads{"one document", 2, 8, {0, 200}});
  const NamedTensors in = inputs_of(c, stream, DType::f32);
  scale(stream, {.x = in["q"], .alpha = 1000, .y = in["q"]});
  for (const auto& [name, values] : run_case(c, stream, in).values())
    for (const double value : values) ASSERT_TRUE(std::isfinite(value)) << name;
}

TEST(Attention, AQueryWithoutAKeyGetsZeroAndMinusInfinity) {
  const Stream stream;
  const Tensor q = random_tensor(stream, DType::f32, {4, 2, 3}, 1), k = random_tensor(stream, DType::f32, {5, 2, 3}, 2);
  const Tensor y = random_tensor(stream, DType::f32, {4, 2, 3}, 3), lse(stream, DType::f32, {4, 2});
  const std::vector<std::int64_t> cu_seqlens{-1, 2, 4};
  for (const std::int64_t offset : {-6, 4, 100}) {
    attention_forward(stream,
                      {.in = {.q = q, .k = k, .v = k, .key_offset = offset, .segments = segments_view(cu_seqlens, 4)},
                       .y = y,
                       .lse = lse});
    EXPECT_EQ(norm(values_of(y)), 0);
    for (const double value : values_of(lse)) EXPECT_EQ(value, -std::numeric_limits<double>::infinity());
  }
}

TEST(Rope, RotatesPairsByThePositionInTheDocument) {
  const Stream stream;
  constexpr std::int64_t T = 200, H = 3, E = 6,
                         before = 999'900;  // the run's first document begins this many tokens before the run
  const std::vector<std::int64_t> cu_seqlens{-before, 70, 71, 260};
  for (const auto& [dtype, limit] :
       {std::pair{DType::f64, 1e-9}, std::pair{DType::f32, 2e-7}, std::pair{DType::bf16, 4e-3}}) {
    const Tensor x = random_tensor(stream, dtype, {T, H, E}, 1), y(stream, dtype, {T, H, E});
    const std::vector<double> in = values_of(x);
    std::vector<double> want(in.size());
    for (std::int64_t t = 0; t < T; ++t)
      for (std::int64_t h = 0; h < H; ++h)
        for (std::int64_t i = 0; i < E / 2; ++i) {
          const std::int64_t position = t < 70 ? t + before : t < 71 ? 0 : t - 71;
          const double angle = static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(i) / E);
          const auto a = static_cast<std::size_t>((t * H + h) * E + i), b = a + E / 2;
          want[a] = in[a] * std::cos(angle) - in[b] * std::sin(angle);
          want[b] = in[b] * std::cos(angle) + in[a] * std::sin(angle);
        }
    rope(stream, {.x = x, .segments = segments_view(cu_seqlens, T), .y = y});
    EXPECT_LE(relative_error(values_of(y), want), limit) << name_of(dtype);
  }
}

TEST(Rope, DividesPositionsByTheScaling) {
  const Stream stream;
  // With every position and the scaling seven times as large, the angles are the same.
  const std::vector<std::int64_t> near{-5, 3}, far{-35, 1};
  for (const DType dtype : floating_types) {
    const Tensor x = random_tensor(stream, dtype, {1, 2, 8}, 1), y(stream, dtype, {1, 2, 8}),
                 z(stream, dtype, {1, 2, 8});
    rope(stream, {.x = x, .segments = segments_view(near, 1), .angles = {.scaling = 0.5}, .y = y});
    rope(stream, {.x = x, .segments = segments_view(far, 1), .angles = {.scaling = 3.5}, .y = z});
    EXPECT_LE(relative_error(y, z), 4 * rounding_of(dtype)) << name_of(dtype);
    rope(stream, {.x = x, .segments = segments_view(near, 1), .y = z});
    EXPECT_GT(relative_error(y, z), 0.1);
  }
}

TEST(Rope, UsesTheStoredFrequenciesInsteadOfTheBase) {
  const Stream stream;
  const std::vector<std::int64_t> cu_seqlens{-5, 3};
  for (const DType dtype : floating_types) {
    const Tensor x = random_tensor(stream, dtype, {3, 2, 8}, 1), y(stream, dtype, {3, 2, 8}),
                 z(stream, dtype, {3, 2, 8});
    // exp2(-i) is exact in every type, and the frequency of pair i for the base 16.
    const Tensor stored = tensor_of(stream, accumulator_of(dtype), {4}, std::vector{1.0, 0.5, 0.25, 0.125});
    const SegmentsView documents = segments_view(cu_seqlens, 3);
    rope(stream, {.x = x, .segments = documents, .angles = {.base = 7, .scaling = 3, .inv_freq = stored}, .y = y});
    rope(stream, {.x = x, .segments = documents, .angles = {.base = 16, .scaling = 3}, .y = z});
    EXPECT_LE(relative_error(y, z), 4 * rounding_of(dtype)) << name_of(dtype);
  }
}

TEST(Rope, InFloat64FrequenciesRoundedToFloat32AreTheirFormula) {
  const Stream stream;
  const std::vector<std::int64_t> cu_seqlens{-5000, 3};  // far positions: the rounding alone turns a pair visibly
  const SegmentsView documents = segments_view(cu_seqlens, 3);
  const Tensor x = random_tensor(stream, DType::f64, {3, 2, 8}, 1), y(stream, DType::f64, {3, 2, 8}),
               z(stream, DType::f64, {3, 2, 8});
  std::vector<double> rounded, changed;
  for (int i = 0; i < 4; ++i) {
    rounded.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / 8)));
    changed.push_back(rounded.back() * (1 + 1e-6));
  }
  rope(stream, {.x = x, .segments = documents, .y = y});
  const auto error_with = [&](const std::vector<double>& frequencies) {
    const Tensor stored = tensor_of(stream, DType::f64, {4}, frequencies);
    rope(stream, {.x = x, .segments = documents, .angles = {.inv_freq = stored}, .y = z});
    return relative_error(y, z);
  };
  EXPECT_EQ(error_with(rounded), 0);
  EXPECT_GT(error_with(changed), 1e-4);
}

TEST(Rope, InverseRotatesBackAndIsTheAdjoint) {
  const Stream stream;
  const std::vector<std::int64_t> cu_seqlens{0, 17, 40};
  const Tensor x = random_tensor(stream, DType::f64, {40, 2, 8}, 1),
               g = random_tensor(stream, DType::f64, {40, 2, 8}, 2);
  const Tensor y(stream, DType::f64, {40, 2, 8}), back(stream, DType::f64, {40, 2, 8});
  const SegmentsView documents = segments_view(cu_seqlens, 40);
  rope(stream, {.x = x, .segments = documents, .angles = {.base = 1e6}, .y = y});
  rope(stream, {.x = g, .segments = documents, .angles = {.base = 1e6}, .inverse = true, .y = back});
  EXPECT_LE(adjoint_mismatch(values_of(y), values_of(g), values_of(x), values_of(back)), 1e-15);
  rope(stream, {.x = y, .segments = documents, .angles = {.base = 1e6}, .inverse = true, .y = y});
  EXPECT_LE(relative_error(y, x), 1e-15);
}

TEST(Rope, CutAnywhereEqualsOneRunAndRowStridesAreFree) {
  const Stream stream;
  const Segments segments({0, 17, 18, 150});
  const Tensor x = random_tensor(stream, DType::f64, {150, 2, 4}, 1), whole(stream, DType::f64, {150, 2, 4});
  const auto all = segments.slice(0, 150);
  rope(stream, {.x = x, .segments = segments_view(all, 150), .y = whole});
  const Padded wide(stream, x.view().reshaped({150, 8}));
  TensorView strided = wide.view();
  strided.shape = {150, 2, 4};
  for (std::int64_t cut = 0; cut <= 150; ++cut) {
    assign(wide.view(), values_of(x));
    for (const auto& [begin, end] : {std::pair{std::int64_t{0}, cut}, std::pair{cut, std::int64_t{150}}}) {
      const auto cu_seqlens = segments.slice(begin, end);
      rope(stream, {.x = strided.slice_rows(begin, end - begin),
                    .segments = segments_view(cu_seqlens, end - begin),
                    .y = strided.slice_rows(begin, end - begin)});
    }
    EXPECT_LE(relative_error(values_of(strided), values_of(whole)), 1e-14) << cut;
  }
  EXPECT_TRUE(wide.padding_untouched());
}

TEST(Attention, RefusesShapesThatDoNotFit) {
  const Stream stream;
  const Tensor q = random_tensor(stream, DType::f32, {6, 2, 4}, 1),
               other = random_tensor(stream, DType::f32, {6, 2, 3}, 1), lse(stream, DType::f32, {6, 2});
  const std::vector<std::int64_t> cu_seqlens{0, 6};
  const auto call = [&](TensorView k, TensorView v, TensorView y) {
    attention_forward(stream,
                      {.in = {.q = q, .k = k, .v = v, .segments = segments_view(cu_seqlens, 6)}, .y = y, .lse = lse});
  };
  const Tensor y(stream, DType::f32, {6, 2, 4});
  EXPECT_NO_THROW(call(q, q, y));
  EXPECT_THROW(call(other, other, y), Error);
  EXPECT_THROW(call(q, other, y), Error);
  EXPECT_THROW(call(q, q, other), Error);
  EXPECT_THROW(rope(stream, {.x = other, .segments = segments_view(cu_seqlens, 6), .y = other}), Error);
  const auto rotate_by = [&](const RopeAngles& angles) {
    rope(stream, {.x = q, .segments = segments_view(cu_seqlens, 6), .angles = angles, .y = y});
  };
  EXPECT_THROW(rotate_by({.scaling = 0}), Error);
  EXPECT_THROW(rotate_by({.inv_freq = lse}), Error);
}

}  // namespace
}  // namespace causeway

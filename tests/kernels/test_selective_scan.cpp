#include "kernels/core/integer.hpp"
#include "kernels/selective_scan.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "kernels/activation.hpp"
#include "tests/support/packed_operator.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

struct Scan {
  std::string name;
  std::int64_t channels, states;
  std::vector<std::int64_t> cu_seqlens;
  bool gate = true, bias = true, softplus = true;
  double slowest = -0.1;  ///< A lies in [-2, slowest]
  double longest = 3;     ///< delta lies in [-6, longest] before softplus
};

/// The formulas of kernels/selective_scan.hpp, token by token.
Values reference(const Scan& c, const Values& in) {
  Values out;
  for (const auto& [name, values] : in)
    if (name != "d_y") out["d_" + name].resize(values.size());
  out["y"].resize(in.at("u").size());
  const auto N = static_cast<std::size_t>(c.states), D = static_cast<std::size_t>(c.channels);
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s)
    for (std::size_t d = 0; d < D; ++d) {
      const auto begin = static_cast<std::size_t>(c.cu_seqlens[s]), end = static_cast<std::size_t>(c.cu_seqlens[s + 1]);
      std::vector<std::vector<double>> h{std::vector<double>(N)};  // h[t - begin] is the state before token t
      const double A_D = in.at("D")[d], bias = c.bias ? in.at("delta_bias")[d] : 0;
      const auto step = [&](std::size_t t) {
        const double raw = in.at("delta")[t * D + d] + bias;
        return !c.softplus || raw > 20 ? raw : std::log1p(std::exp(raw));
      };
      const auto decay = [&](std::size_t t, std::size_t n) { return std::exp(step(t) * in.at("A")[d * N + n]); };
      const auto gate = [&](std::size_t t) {
        return c.gate ? in.at("z")[t * D + d] / (1 + std::exp(-in.at("z")[t * D + d])) : 1;
      };
      std::vector<double> y_before_gate;
      for (std::size_t t = begin; t < end; ++t) {
        std::vector<double> next(N);
        const double u = in.at("u")[t * D + d];
        double sum = A_D * u;
        for (std::size_t n = 0; n < N; ++n) {
          next[n] = decay(t, n) * h.back()[n] + step(t) * u * in.at("B")[t * N + n];
          sum += in.at("C")[t * N + n] * next[n];
        }
        h.push_back(next);
        y_before_gate.push_back(sum);
        out["y"][t * D + d] = sum * gate(t);
      }
      std::vector<double> g(N);  // exp(Δ_{t+1}A) g_{t+1}, then g_t
      for (std::size_t t = end; t-- > begin;) {
        const double u = in.at("u")[t * D + d], raw = in.at("delta")[t * D + d] + bias, dy = in.at("d_y")[t * D + d],
                     ds = dy * gate(t);
        double d_step = 0, gB = 0;
        for (std::size_t n = 0; n < N; ++n) {
          const double B = in.at("B")[t * N + n], A = in.at("A")[d * N + n], before = h[t - begin][n], a = decay(t, n);
          g[n] += in.at("C")[t * N + n] * ds;
          gB += g[n] * B;
          out["d_B"][t * N + n] += g[n] * step(t) * u;
          out["d_C"][t * N + n] += ds * h[t - begin + 1][n];
          d_step += g[n] * (B * u + A * a * before);
          out["d_A"][d * N + n] += g[n] * step(t) * a * before;
          g[n] *= a;
        }
        const double slope = !c.softplus || raw > 20 ? 1 : 1 / (1 + std::exp(-raw));
        out["d_u"][t * D + d] = A_D * ds + step(t) * gB;
        out["d_delta"][t * D + d] = d_step * slope;
        if (c.bias) out["d_delta_bias"][d] += d_step * slope;
        out["d_D"][d] += ds * u;
        if (c.gate) {
          const double z = in.at("z")[t * D + d], open = 1 / (1 + std::exp(-z));
          out["d_z"][t * D + d] = dy * y_before_gate[t - begin] * open * (1 + z * (1 - open));
        }
      }
    }
  return out;
}

SelectiveScanInputs arguments(const Scan& c, const Views& in, const PackedRun& run) {
  return {.u = rows(in, "u", run.begin, run.end),
          .delta = rows(in, "delta", run.begin, run.end),
          .z = rows(in, "z", run.begin, run.end),
          .A = view(in, "A"),
          .B = rows(in, "B", run.begin, run.end),
          .C = rows(in, "C", run.begin, run.end),
          .D = view(in, "D"),
          .delta_bias = view(in, "delta_bias"),
          .delta_softplus = c.softplus,
          .segments = run.segments()};
}

/// How the state and the adjoint pass from run to run.
enum class Carried : std::uint8_t { by_summaries, by_scans };

/// The pack divided into runs at `cuts`, which are connected only by state_in and adjoint_in. A carry comes from a
/// summary and a fold, or is what the scan of the run before wrote. A carry that no document needs is NaN.
void run(const Scan& c, Carried carried, const Stream& stream, const Views& in, const Views& out,
         const Segments& segments, const std::vector<std::int64_t>& cuts) {
  const TensorView A = view(in, "A");
  const Tensor carry(stream, A.dtype, A.shape), summary(stream, A.dtype, A.shape), steps(stream, A.dtype, {A.rows()}),
      leaving(stream, A.dtype, A.shape);
  const auto take = [&](TensorView x) { stream.copy(carry.view().data, x.data, x.bytes()); };
  const auto carry_over = [&](const PackedRun& of) {
    if (of.tokens() > 0 && !of.inside_a_document()) fill(stream, {.value = 0, .y = carry});
    selective_scan_fold(stream, {.A = A, .summary_state = summary, .sum_delta = steps, .carry = carry});
  };
  const std::vector<PackedRun> runs = runs_of(segments, cuts);
  std::vector<Tensor> states;
  const Tensor nothing(stream, A.dtype, A.shape);
  fill(stream, {.value = std::nan(""), .y = nothing});
  take(nothing);
  for (const PackedRun& of : runs) {
    const SelectiveScanInputs inputs = arguments(c, in, of);
    states.emplace_back(stream, A.dtype, Shape{ceil_div(of.tokens(), selective_scan_block), A.rows(), A.columns()});
    selective_scan_forward(stream, {.in = inputs,
                                    .state_in = carry,
                                    .y = rows(out, "y", of.begin, of.end),
                                    .states = states.back(),
                                    .state_out = carried == Carried::by_scans ? leaving.view() : TensorView{}});
    if (carried == Carried::by_scans) {
      if (of.tokens() > 0) take(of.segments().continues_to_right() ? leaving.view() : nothing.view());
      continue;
    }
    selective_scan_summary(stream, {.in = inputs, .state = summary, .sum_delta = steps});
    carry_over(of);
  }
  take(nothing);
  for (std::size_t i = runs.size(); i-- > 0;) {
    const PackedRun& of = runs[i];
    const SelectiveScanInputs inputs = arguments(c, in, of);
    const auto part = [&](const char* name) { return rows(out, name, of.begin, of.end); };
    const TensorView d_y = rows(in, "d_y", of.begin, of.end);
    selective_scan_backward(stream, {.in = inputs,
                                     .states = states[i],
                                     .adjoint_in = carry,
                                     .d_y = d_y,
                                     .d_u = part("d_u"),
                                     .d_delta = part("d_delta"),
                                     .d_B = part("d_B"),
                                     .d_C = part("d_C"),
                                     .d_z = part("d_z"),
                                     .d_A = view(out, "d_A"),
                                     .d_D = view(out, "d_D"),
                                     .d_delta_bias = view(out, "d_delta_bias"),
                                     .adjoint_out = carried == Carried::by_scans ? leaving.view() : TensorView{}});
    if (carried == Carried::by_scans) {
      if (of.tokens() > 0) take(of.segments().continues_from_left() ? leaving.view() : nothing.view());
      continue;
    }
    selective_scan_adjoint_summary(stream, {.in = inputs, .d_y = d_y, .adjoint = summary, .sum_delta = steps});
    carry_over(of);
  }
}

PackedCase packed(const Scan& c, Carried carried = Carried::by_summaries) {
  const std::int64_t D = c.channels, N = c.states, T = c.cu_seqlens.back();
  PackedCase result{.name = c.name,
                    .cu_seqlens = c.cu_seqlens,
                    .inputs = {{"d_y", {T, D}}, {"u", {T, D}}, {"B", {T, N}}, {"C", {T, N}}},
                    .linear_in = "u",
                    .run = std::bind_front(run, c, carried),
                    .reference = std::bind_front(reference, c)};
  result.inputs.push_back(
      {.name = "delta", .shape = {T, D}, .low = c.softplus ? -6 : 0.01, .high = c.softplus ? c.longest : 0.5});
  if (c.gate) result.inputs.push_back({.name = "z", .shape = {T, D}, .low = -3, .high = 3});
  result.inputs.push_back(
      {.name = "A", .shape = {D, N}, .tokenwise = false, .accumulator = true, .low = -2, .high = c.slowest});
  result.inputs.push_back({.name = "D", .shape = {D}, .tokenwise = false, .accumulator = true});
  if (c.bias)
    result.inputs.push_back(
        {.name = "delta_bias", .shape = {D}, .tokenwise = false, .accumulator = true, .low = 0, .high = 0.5});
  return result;
}

const std::vector<Scan> table = {
    {"one document of two blocks", 8, 4, {0, 100}},
    {"Mamba's 16 states", 16, 16, {0, 40, 64, 65, 130}},
    {"one state, one channel", 1, 1, {0, 5, 70}},
    {"three states, a tile and a channel", 17, 3, {0, 63, 64, 128, 129}},
    {"17 states, five tiles", 67, 17, {0, 20, 30}},
    {"one-token documents", 5, 3, {0, 1, 2, 3, 4, 5, 6}},
    {"one token", 3, 2, {0, 1}},
    {"ungated", 9, 5, {0, 7, 77}, false},
    {"no bias", 6, 4, {0, 30, 70}, true, false},
    {"delta is the step itself", 6, 4, {0, 30, 70}, true, true, false},
    {"nothing optional", 4, 2, {0, 66}, false, false, false},
    {"slow decay", 6, 4, {0, 300}, true, true, true, -1e-4},
    {"steps on both sides of 20, where softplus becomes the identity", 5, 3, {0, 40, 66}, true, true, true, -0.1, 26},
    {"documents of eight", 20, 4, {0, 8, 16, 24, 32, 40, 48, 56, 64, 72}},
    {"longer than a window of the backward", 2, 2, {0, 3, 600, 1100}},
    {"no token", 4, 4, {0}},
};
const std::vector<PackedCase> cases = [] {
  std::vector<PackedCase> all;
  for (const Scan& c : table) all.push_back(packed(c));
  return all;
}();

TEST(SelectiveScan, EqualsTheFormulaInEveryTypeAndShape) {
  expect_equal_to_the_formula(cases, {.f64 = 1e-13, .f32 = 2e-6, .bf16 = 4e-3});
}
TEST(SelectiveScan, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases, 1e-7, 420); }
TEST(SelectiveScan, GradientOfTheInputIsTheAdjointOfTheMapFromItToTheOutput) {
  expect_backward_is_the_adjoint(cases, 1e-15);
}
TEST(SelectiveScan, PackedEqualsOneDocumentAtATimeBitForBit) {
  expect_packed_equal_to_one_document_at_a_time_bit_for_bit(cases, {.f64 = 1e-14, .f32 = 2e-6, .bf16 = 2e-6});
}
TEST(SelectiveScan, CutAnywhereEqualsOneRun) { expect_cut_anywhere_equal_to_one_run(cases, 1e-13, {0, 1, 9}); }
TEST(SelectiveScan, CutAnywhereEqualsOneRunIfEachRunTakesTheStateAndAdjointThatTheNeighbourWrote) {
  std::vector<PackedCase> by_scans;
  for (const Scan& c : table) by_scans.push_back(packed(c, Carried::by_scans));
  expect_cut_anywhere_equal_to_one_run(by_scans, 1e-13, {0, 1, 9});
}
TEST(SelectiveScan, WritesResultsAndAddsToParameterGradients) {
  expect_results_are_written_and_parameter_gradients_added_to(cases);
}
TEST(SelectiveScan, AcceptsColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(SelectiveScan, NonFiniteValuesStayInTheirDocument) {
  expect_non_finite_values_stay_in_their_document(packed({"three documents", 19, 3, {0, 30, 60, 90}}),
                                                  {{}, {29}, {31}, {59}, {60}, {61}});
}

TEST(SelectiveScan, ATokenDependsOnlyOnEarlierTokens) {
  expect_a_token_depends_only_on_earlier_tokens(packed({"one document", 9, 3, {0, 150}}));
}

TEST(SelectiveScan, GivesTheSameBitsOnAnyNumberOfThreads) {
  expect_same_bits_on_any_number_of_threads(packed({"long", 300, 5, growing_documents(1500)}), {700});
}

TEST(SelectiveScan, SummariesCoverOnlyTheDocumentThatCrossesTheEdge) {
  const Stream stream;
  const Scan c{"two documents", 3, 2, {0, 70, 140}};
  const NamedTensors in = inputs_of(packed(c), stream, DType::f64);
  const Segments segments(c.cu_seqlens);
  const PackedRun whole = runs_of(segments, {})[0], first = runs_of(segments, {70})[0],
                  second = runs_of(segments, {70})[1];
  const auto summary = [&](const PackedRun& of) {
    const Tensor state(stream, DType::f64, {3, 2}), steps(stream, DType::f64, {3});
    selective_scan_summary(stream, {.in = arguments(c, in.views(), of), .state = state, .sum_delta = steps});
    return std::pair{values_of(state), values_of(steps)};
  };
  const auto adjoint_summary = [&](const PackedRun& of) {
    const Tensor adjoint(stream, DType::f64, {3, 2}), steps(stream, DType::f64, {3});
    selective_scan_adjoint_summary(stream, {.in = arguments(c, in.views(), of),
                                            .d_y = rows(in.views(), "d_y", of.begin, of.end),
                                            .adjoint = adjoint,
                                            .sum_delta = steps});
    return std::pair{values_of(adjoint), values_of(steps)};
  };
  EXPECT_EQ(summary(whole), summary(second));
  EXPECT_EQ(adjoint_summary(whole), adjoint_summary(first));
}

TEST(SelectiveScan, SumsTheStepSizesOfALongRunWithoutLosingDigits) {
  const Stream stream;
  const Scan c{"long", 1, 1, {0, 200000}, false, false, false};
  const NamedTensors in = inputs_of(packed(c), stream, DType::f32);
  const Tensor state(stream, DType::f32, {1, 1}), steps(stream, DType::f32, {1});
  const std::vector<PackedRun> runs = runs_of(Segments(c.cu_seqlens), {});
  selective_scan_summary(stream, {.in = arguments(c, in.views(), runs[0]), .state = state, .sum_delta = steps});
  const std::vector<double> all = values_of(in["delta"]);
  EXPECT_LT(relative_error(values_of(steps), std::vector{std::accumulate(all.begin(), all.end(), 0.0)}), 1e-7);
}

TEST(SelectiveScan, RefusesShapesThatDoNotFit) {
  const Stream stream;
  const Scan c{"two blocks", 8, 4, {0, 100}};
  const NamedTensors in = inputs_of(packed(c), stream, DType::f32);
  const Tensor y(stream, DType::f32, {100, 8}), few_states(stream, DType::f32, {1, 8, 4});
  const std::vector<PackedRun> runs = runs_of(Segments(c.cu_seqlens), {});
  SelectiveScanInputs inputs = arguments(c, in.views(), runs[0]);
  const auto call = [&](TensorView states) {
    selective_scan_forward(stream, {.in = inputs, .state_in = {}, .y = y, .states = states});
  };
  EXPECT_NO_THROW(call({}));
  EXPECT_THROW(call(few_states), Error);
  inputs.B = inputs.u;
  EXPECT_THROW(call({}), Error);
}

}  // namespace
}  // namespace causeway

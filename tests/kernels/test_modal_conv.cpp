#include "kernels/core/integer.hpp"
#include "kernels/modal_conv.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kernels/activation.hpp"
#include "kernels/blocked_conv.hpp"
#include "tests/support/gated_convolution.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

struct Recurrence {
  std::string name;
  std::int64_t channels, modes;
  std::vector<std::int64_t> cu_seqlens;
  bool gates = true, skip = true;
  double slowest = -4, fastest = 1;  ///< range of log_rates
};

/// The formulas of kernels/modal_conv.hpp: the recurrence token by token, and its adjoint.
Values reference(const Recurrence& c, const Values& in) {
  const std::int64_t D = c.channels, M = c.modes, T = c.cu_seqlens.back();
  const auto at = [&](const char* name, std::int64_t i, double otherwise) {
    return in.contains(name) ? in.at(name)[static_cast<std::size_t>(i)] : otherwise;
  };
  Values out;
  for (const char* name : {"y", "d_q", "d_k", "d_v"}) out[name].resize(static_cast<std::size_t>(T * D));
  for (const char* name : {"d_residues", "d_log_rates"}) out[name].resize(static_cast<std::size_t>(D * M));
  out["d_skip"].resize(static_cast<std::size_t>(D));
  for (std::int64_t d = 0; d < D; ++d)
    for (std::size_t document = 0; document + 1 < c.cu_seqlens.size(); ++document) {
      const std::int64_t begin = c.cu_seqlens[document], end = c.cu_seqlens[document + 1];
      const auto index = [&](std::int64_t t) { return t * D + d; };
      const auto kv = [&](std::int64_t t) { return at("k", index(t), 1) * at("v", index(t), 0); };
      const auto dc = [&](std::int64_t t) { return at("d_y", index(t), 0) * at("q", index(t), 1); };
      std::vector<double> sum(static_cast<std::size_t>(end - begin)), d_kv(static_cast<std::size_t>(end - begin));
      for (std::int64_t t = begin; t < end; ++t) {
        sum[static_cast<std::size_t>(t - begin)] = at("skip", d, 0) * kv(t);
        d_kv[static_cast<std::size_t>(t - begin)] = at("skip", d, 0) * dc(t);
        out["d_skip"][static_cast<std::size_t>(d)] += dc(t) * kv(t);
      }
      for (std::int64_t m = 0; m < M; ++m) {
        const auto mode = static_cast<std::size_t>(d * M + m);
        const double rate = std::exp(in.at("log_rates")[mode]), decay = std::exp(-rate),
                     residue = in.at("residues")[mode];
        std::vector<double> state(static_cast<std::size_t>(end - begin) + 1);
        for (std::int64_t t = begin; t < end; ++t) {
          const auto i = static_cast<std::size_t>(t - begin);
          state[i + 1] = decay * state[i] + kv(t);
          sum[i] += residue * state[i + 1];
          out["d_residues"][mode] += dc(t) * state[i + 1];
        }
        double adjoint = 0;
        for (std::int64_t t = end - 1; t >= begin; --t) {
          const auto i = static_cast<std::size_t>(t - begin);
          adjoint = residue * dc(t) + decay * adjoint;
          d_kv[i] += adjoint;
          out["d_log_rates"][mode] -= rate * decay * adjoint * state[i];
        }
      }
      for (std::int64_t t = begin; t < end; ++t) {
        const auto i = static_cast<std::size_t>(index(t)), j = static_cast<std::size_t>(t - begin);
        out["y"][i] = at("q", index(t), 1) * sum[j];
        out["d_q"][i] = at("d_y", index(t), 0) * sum[j];
        out["d_k"][i] = d_kv[j] * at("v", index(t), 0);
        out["d_v"][i] = d_kv[j] * at("k", index(t), 1);
      }
    }
  for (const char* name : {"q", "k", "skip"})
    if (!in.contains(name)) out.erase(std::string("d_") + name);
  return out;
}

/// How the state and the adjoint pass from run to run.
enum class Carried : std::uint8_t { by_summaries, by_scans };

/// The pack divided into runs at `cuts`. Summaries and folds carry the state to the right and the adjoint to the left;
/// or each run takes what the run before wrote. A carry that no document needs is NaN.
void run(Carried carried, const Stream& stream, const Views& in, const Views& out, const Segments& segments,
         const std::vector<std::int64_t>& cuts) {
  const TensorView residues = view(in, "residues"), log_rates = view(in, "log_rates");
  const std::vector<PackedRun> runs = runs_of(segments, cuts);
  const auto inputs = [&](const PackedRun& of) { return gated_inputs(in, of.begin, of.end, of.segments()); };
  const Tensor carry(stream, log_rates.dtype, log_rates.shape), summary(stream, log_rates.dtype, log_rates.shape),
      leaving(stream, log_rates.dtype, log_rates.shape);
  const TensorView asked = carried == Carried::by_scans ? leaving.view() : TensorView{};
  const auto take_leaving = [&](const PackedRun& of, bool continues) {
    if (of.tokens() == 0) return;
    if (continues)
      scale(stream, {.x = leaving, .y = carry});
    else
      fill(stream, {.value = std::nan(""), .y = carry});
  };
  const auto carry_over = [&](const PackedRun& of) {
    if (of.tokens() == 0) return;
    if (of.inside_a_document())
      modal_conv_fold(stream,
                      {.log_rates = log_rates, .summary_state = summary, .tokens = of.tokens(), .carry = carry});
    else
      scale(stream, {.x = summary, .y = carry});
  };
  fill(stream, {.value = std::nan(""), .y = carry});
  std::vector<Tensor> states;
  for (const PackedRun& of : runs) {
    states.emplace_back(stream, log_rates.dtype,
                        Shape{ceil_div(of.tokens(), modal_conv_block), log_rates.rows(), log_rates.columns()});
    modal_conv_forward(stream, {.in = inputs(of),
                                .residues = residues,
                                .log_rates = log_rates,
                                .state_in = carry,
                                .y = rows(out, "y", of.begin, of.end),
                                .states = states.back(),
                                .state_out = asked});
    if (carried == Carried::by_scans) {
      take_leaving(of, of.segments().continues_to_right());
      continue;
    }
    modal_conv_summary(stream, {.in = inputs(of), .log_rates = log_rates, .state = summary});
    carry_over(of);
  }
  fill(stream, {.value = std::nan(""), .y = carry});
  for (std::size_t i = runs.size(); i-- > 0;) {
    const PackedRun& of = runs[i];
    modal_conv_backward(stream, {.in = inputs(of),
                                 .residues = residues,
                                 .log_rates = log_rates,
                                 .states = states[i],
                                 .adjoint_in = carry,
                                 .gradients = gated_gradients(in, out, of.begin, of.end),
                                 .d_residues = view(out, "d_residues"),
                                 .d_log_rates = view(out, "d_log_rates"),
                                 .adjoint_out = asked});
    if (carried == Carried::by_scans) {
      take_leaving(of, of.segments().continues_from_left());
      continue;
    }
    modal_conv_adjoint_summary(stream, {.in = inputs(of),
                                        .residues = residues,
                                        .log_rates = log_rates,
                                        .d_y = rows(in, "d_y", of.begin, of.end),
                                        .adjoint = summary});
    carry_over(of);
  }
}

PackedCase packed(const Recurrence& c, Carried carried = Carried::by_summaries) {
  const std::int64_t D = c.channels, T = c.cu_seqlens.back();
  PackedCase result{.name = c.name,
                    .cu_seqlens = c.cu_seqlens,
                    .inputs = {{"d_y", {T, D}}, {"v", {T, D}}},
                    .linear_in = "v",
                    .run = {},
                    .reference = {}};
  if (c.gates) result.inputs.insert(result.inputs.end(), {{"q", {T, D}}, {"k", {T, D}}});
  result.inputs.push_back({.name = "residues", .shape = {D, c.modes}, .tokenwise = false, .accumulator = true});
  result.inputs.push_back({.name = "log_rates",
                           .shape = {D, c.modes},
                           .tokenwise = false,
                           .accumulator = true,
                           .low = c.slowest,
                           .high = c.fastest});
  if (c.skip) result.inputs.push_back({.name = "skip", .shape = {D}, .tokenwise = false});
  result.run = std::bind_front(run, carried);
  result.reference = [c](const Values& in) { return reference(c, in); };
  return result;
}

const std::vector<Recurrence> table = {
    {"one document", 6, 16, {0, 256}},
    {"documents of every length up to two pieces", 3, 5, {0, 1, 3, 6, 10, 15, 16, 32, 49, 51, 83, 84, 150}},
    {"one-token documents", 5, 3, {0, 1, 2, 3, 4, 5}},
    {"a few tokens", 2, 2, {0, 3, 14}},
    {"no skip", 4, 8, {0, 90}, true, false},
    {"no gates", 4, 7, {0, 20, 77}, false, true},
    {"one mode, neither gates nor skip", 2, 1, {0, 40, 60}, false, false},
    {"slow modes", 4, 16, {0, 40, 300}, true, true, -10, -6},
    {"channels beyond a tile", 37, 4, {0, 62, 190, 192, 700}},
    {"no token", 2, 2, {0}},
    {"no channel", 0, 4, {0, 20}},
};
const std::vector<PackedCase> cases = [] {
  std::vector<PackedCase> all;
  for (const Recurrence& c : table) all.push_back(packed(c));
  return all;
}();

TEST(ModalConv, EqualsTheFormulaInEveryTypeAndShape) { expect_equal_to_the_formula(cases); }
TEST(ModalConv, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases); }
TEST(ModalConv, BackwardIsTheAdjointOfForward) { expect_backward_is_the_adjoint(cases); }
TEST(ModalConv, PackedEqualsOneDocumentAtATime) { expect_packed_equal_to_one_document_at_a_time(cases); }
TEST(ModalConv, CutAnywhereEqualsOneRun) { expect_cut_anywhere_equal_to_one_run(cases, 1e-12); }
TEST(ModalConv, CutAnywhereEqualsOneRunIfEachRunTakesTheStateAndAdjointThatTheNeighbourWrote) {
  std::vector<PackedCase> by_scans;
  for (const Recurrence& c : table) by_scans.push_back(packed(c, Carried::by_scans));
  expect_cut_anywhere_equal_to_one_run(by_scans, 1e-12);
}
TEST(ModalConv, WritesResultsAndAddsToParameterGradients) {
  expect_results_are_written_and_parameter_gradients_added_to(cases);
}
TEST(ModalConv, AcceptsColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(ModalConv, NonFiniteValuesStayInTheirDocument) {
  expect_non_finite_values_stay_in_their_document(packed(Recurrence{"three documents", 9, 4, {0, 50, 80, 140}}),
                                                  {{}, {49}, {51}, {80}, {81}});
}

TEST(ModalConv, GivesTheSameBitsOnAnyNumberOfThreads) {
  expect_same_bits_on_any_number_of_threads(packed(Recurrence{"long", 150, 6, growing_documents(2000)}), {1000});
}

TEST(ModalConv, KeepsFloat32AccurateOverManyTokensOfNearlyConstantModes) {
  const PackedCase c = packed(Recurrence{"slow and long", 2, 4, {0, 30000}, false, false, -11, -9});
  const Stream stream;
  const NamedTensors in = inputs_of(c, stream, DType::f32);
  const Values got = run_case(c, stream, in).values(), want = c.reference(in.values());
  for (const auto& [name, expected] : want) EXPECT_LE(relative_error(got.at(name), expected), 5e-6) << name;
}

TEST(ModalConv, ATokenDependsOnlyOnEarlierTokens) {
  expect_a_token_depends_only_on_earlier_tokens(packed(Recurrence{"one document", 5, 4, {0, 64}}));
}

TEST(ModalConv, TheDirectMethodGivesTheSameResult) {
  const Stream stream;
  for (const PackedCase& c : cases) {
    SCOPED_TRACE(c.name);
    const NamedTensors in = inputs_of(c, stream, DType::f64);
    const Views inputs = in.views();
    const NamedTensors modal = run_case(c, stream, in), direct = run_case(c, stream, in);
    const std::int64_t D = in["v"].columns(), length = std::max<std::int64_t>(c.tokens(), 1);
    const Tensor taps(stream, DType::f64, {D, length}), d_taps = Tensor::zeros(stream, DType::f64, {D, length});
    for (const char* name : {"d_residues", "d_log_rates"}) fill(stream, {.value = 0, .y = direct[name]});
    if (inputs.contains("skip")) fill(stream, {.value = 0, .y = direct["d_skip"]});
    const GatedConvInputs of = gated_inputs(inputs, 0, c.tokens(), segments_view(c.cu_seqlens, c.tokens()));
    const Views out = direct.views();
    modal_filter(stream, {.residues = in["residues"], .log_rates = in["log_rates"], .taps = taps});
    blocked_conv_forward(stream, {.in = of, .halo = {}, .taps = taps, .y = direct["y"]});
    blocked_conv_backward(stream, {.in = of,
                                   .halo = {},
                                   .taps = taps,
                                   .gradients = gated_gradients(inputs, out, 0, c.tokens()),
                                   .d_halo = {},
                                   .d_taps = d_taps});
    modal_filter_backward(stream, {.residues = in["residues"],
                                   .log_rates = in["log_rates"],
                                   .d_taps = d_taps,
                                   .d_residues = direct["d_residues"],
                                   .d_log_rates = direct["d_log_rates"]});
    for (const auto& [name, expected] : modal.values())
      EXPECT_LE(relative_error(values_of(direct[name]), expected), 1e-12) << name;
  }
}

TEST(ModalFilter, StaysAccurateAlongTheFilter) {
  const Stream stream;
  const std::vector<double> log_rates{-12, -8, -3, 0.5}, residues{1, -0.5, 0.25, 2};
  constexpr std::int64_t length = 40000;
  const Tensor taps(stream, DType::f32, {1, length});
  modal_filter(stream, {.residues = tensor_of(stream, DType::f32, {1, 4}, residues),
                        .log_rates = tensor_of(stream, DType::f32, {1, 4}, log_rates),
                        .taps = taps});
  std::vector<double> want(length);
  for (std::size_t m = 0; m < 4; ++m)
    for (std::size_t t = 0; t < want.size(); ++t)
      want[t] += residues[m] *
                 std::exp(-std::exp(static_cast<double>(static_cast<float>(log_rates[m]))) * static_cast<double>(t));
  EXPECT_LE(relative_error(values_of(taps), want), 3e-7);
}

TEST(ModalFilter, ExtremeRatesGiveOneTapOrAConstant) {
  const Stream stream;
  constexpr std::int64_t length = 300;
  const std::vector<double> ones(2, 1.0), extremes{800, -800};
  const Tensor residues = tensor_of(stream, DType::f64, {2, 1}, ones),
               log_rates = tensor_of(stream, DType::f64, {2, 1}, extremes);
  const Tensor taps(stream, DType::f64, {2, length}), d_taps = random_tensor(stream, DType::f64, {2, length}, 1);
  modal_filter(stream, {.residues = residues, .log_rates = log_rates, .taps = taps});
  std::vector<double> want(2 * length, 0.0);
  want[0] = 1;
  std::fill(want.begin() + length, want.end(), 1.0);
  EXPECT_EQ(values_of(taps), want);
  const Tensor d_residues = Tensor::zeros(stream, DType::f64, {2, 1}),
               d_log_rates = Tensor::zeros(stream, DType::f64, {2, 1});
  modal_filter_backward(stream, {.residues = residues,
                                 .log_rates = log_rates,
                                 .d_taps = d_taps,
                                 .d_residues = d_residues,
                                 .d_log_rates = d_log_rates});
  EXPECT_EQ(values_of(d_log_rates), (std::vector<double>{0, 0}));
  EXPECT_EQ(values_of(d_residues)[0], values_of(d_taps)[0]);
}

TEST(ModalConv, RefusesShapesThatDoNotFit) {
  const Stream stream;
  const Tensor v = random_tensor(stream, DType::f32, {12, 4}, 1), y(stream, DType::f32, {12, 4});
  const Tensor modes = random_tensor(stream, DType::f32, {4, 3}, 2),
               fewer = random_tensor(stream, DType::f32, {3, 3}, 2),
               wide = random_tensor(stream, DType::f64, {4, 3}, 2);
  const std::vector<std::int64_t> cu_seqlens{0, 12};
  const auto call = [&](TensorView residues, TensorView log_rates) {
    modal_conv_forward(stream, {.in = {.q = {}, .k = {}, .v = v, .skip = {}, .segments = segments_view(cu_seqlens, 12)},
                                .residues = residues,
                                .log_rates = log_rates,
                                .state_in = {},
                                .y = y,
                                .states = {}});
  };
  EXPECT_NO_THROW(call(modes, modes));
  EXPECT_THROW(call(modes, fewer), Error);
  EXPECT_THROW(call(wide, wide), Error);
}

}  // namespace
}  // namespace causeway

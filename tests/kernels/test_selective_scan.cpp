#include "kernels/selective_scan.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway {
namespace {

using namespace causeway::test;
using Values = std::map<std::string, std::vector<double>>;
using Tensors = std::map<std::string, Tensor>;

struct Case {
  const char* name;
  std::int64_t channels, states;
  std::vector<std::int64_t> cu_seqlens;
  bool gate = true, bias = true, softplus = true;
  double slowest = -0.1;  ///< A lies in [-2, slowest]

  std::int64_t tokens() const { return cu_seqlens.back(); }
};

const std::vector<Case> cases = {
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
    {"documents of eight", 20, 4, {0, 8, 16, 24, 32, 40, 48, 56, 64, 72}},
    {"longer than a window of the backward", 2, 2, {0, 3, 600, 1100}},
    {"no token", 4, 4, {0}},
};

Tensors inputs(const Stream& stream, const Case& c, DType dtype, std::uint64_t seed = 1) {
  const DType accumulator = accumulator_of(dtype);
  const Shape channels{c.tokens(), c.channels}, states{c.tokens(), c.states};
  Tensors in;
  in["u"] = random_tensor(stream, dtype, channels, seed);
  // Steps of every size, some beyond 20, where softplus becomes the identity.
  in["delta"] = c.softplus ? random_tensor(stream, dtype, channels, seed + 1, -6, 3)
                           : random_tensor(stream, dtype, channels, seed + 1, 0.01, 0.5);
  if (c.softplus && c.tokens() > 60)
    assign(in["delta"].view().slice_rows(33, 1), std::vector<double>(static_cast<std::size_t>(c.channels), 21.5));
  if (c.gate) in["z"] = random_tensor(stream, dtype, channels, seed + 2, -3, 3);
  in["A"] = random_tensor(stream, accumulator, {c.channels, c.states}, seed + 3, -2, c.slowest);
  in["B"] = random_tensor(stream, dtype, states, seed + 4);
  in["C"] = random_tensor(stream, dtype, states, seed + 5);
  in["D"] = random_tensor(stream, accumulator, {c.channels}, seed + 6);
  if (c.bias) in["delta_bias"] = random_tensor(stream, accumulator, {c.channels}, seed + 7, 0, 0.5);
  in["d_y"] = random_tensor(stream, dtype, channels, seed + 8);
  return in;
}

Values values(const Tensors& tensors) {
  Values result;
  for (const auto& [name, tensor] : tensors) result[name] = values_of(tensor);
  return result;
}

/// operators.md's formulas, token after token, in float64.
Values reference(const Case& c, const Values& in) {
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

TensorView view(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? TensorView{} : found->second.view();
}
TensorView rows(const Tensors& tensors, const std::string& name, std::int64_t begin, std::int64_t end) {
  const TensorView whole = view(tensors, name);
  return whole.present() ? whole.slice_rows(begin, end - begin) : whole;
}

Tensors outputs(const Stream& stream, const Tensors& in) {
  Tensors out;
  for (const auto& [name, tensor] : in)
    if (name != "d_y") out["d_" + name] = Tensor::zeros(stream, tensor.view().dtype, tensor.view().shape);
  out["y"] = Tensor::zeros(stream, in.at("u").view().dtype, in.at("u").view().shape);
  return out;
}

/// A run of consecutive tokens and what its neighbours hand it.
struct Part {
  std::int64_t begin, end;
  std::vector<std::int64_t> cu_seqlens;
  SelectiveScanInputs in;
  Tensor state_in, adjoint_in, states;
  Tensor state, adjoint, tail_steps, head_steps;  // its two summaries
};

std::vector<Part> cut(const Stream& stream, const Case& c, const Tensors& in, std::vector<std::int64_t> cuts) {
  const DType accumulator = in.at("A").view().dtype;
  std::vector<Part> runs;
  std::int64_t begin = 0;
  cuts.push_back(c.tokens());
  for (const std::int64_t end : cuts) {
    Part& run = runs.emplace_back();
    run.begin = begin;
    run.end = end;
    run.cu_seqlens = Segments(c.cu_seqlens).slice(begin, end);
    run.in = {.u = rows(in, "u", begin, end),
              .delta = rows(in, "delta", begin, end),
              .z = rows(in, "z", begin, end),
              .A = view(in, "A"),
              .B = rows(in, "B", begin, end),
              .C = rows(in, "C", begin, end),
              .D = view(in, "D"),
              .delta_bias = view(in, "delta_bias"),
              .delta_softplus = c.softplus,
              .segments = {}};
    const Shape state{c.channels, c.states};
    // NaN: read where nothing continues, it would show.
    const std::vector<double> unset(static_cast<std::size_t>(state.size()), std::nan(""));
    for (Tensor* tensor : {&run.state_in, &run.adjoint_in, &run.state, &run.adjoint})
      *tensor = tensor_of(stream, accumulator, state, unset);
    for (Tensor* tensor : {&run.tail_steps, &run.head_steps}) *tensor = Tensor(stream, accumulator, {c.channels});
    run.states = Tensor(stream, accumulator,
                        {(end - begin + selective_scan_block - 1) / selective_scan_block, c.channels, c.states});
    begin = end;
  }
  for (Part& run : runs) run.in.segments = segments_view(run.cu_seqlens, run.end - run.begin);
  return runs;
}

/// carry = the neighbour's summary, plus what it took in itself where all of it is one document's inside.
void fold(const Stream& stream, const Tensors& in, const Tensor& summary, const Tensor& steps, bool passes,
          const Tensor& carried, Tensor& carry) {
  assign(carry, std::vector<double>(static_cast<std::size_t>(carry.view().size())));
  if (passes) assign(carry, values_of(carried));
  selective_scan_fold(stream, {.A = view(in, "A"), .summary_state = summary, .sum_delta = steps, .carry = carry});
}

/// Forward and backward over runs cut at `cuts`, which know each other through summaries, folds, state_in and
/// adjoint_in alone.
Tensors run(const Stream& stream, const Case& c, const Tensors& in, const std::vector<std::int64_t>& cuts = {}) {
  Tensors out = outputs(stream, in);
  std::vector<Part> runs = cut(stream, c, in, cuts);
  const auto inside = [](const Part& r) { return r.begin == r.end || r.in.segments.count == 1; };
  for (std::size_t i = 0; i < runs.size(); ++i) {
    Part& r = runs[i];
    if (i > 0) {
      const Part& left = runs[i - 1];
      const bool passes =
          inside(left) && (left.begin == left.end || left.in.segments.continues_from_left()) && left.begin > 0;
      fold(stream, in, left.state, left.tail_steps, passes, left.state_in, r.state_in);
    }
    selective_scan_summary(stream, {.in = r.in, .state = r.state, .sum_delta = r.tail_steps});
    selective_scan_forward(
        stream, {.in = r.in, .state_in = r.state_in, .y = rows(out, "y", r.begin, r.end), .states = r.states});
  }
  for (std::size_t i = runs.size(); i-- > 0;) {
    Part& r = runs[i];
    if (i + 1 < runs.size()) {
      const Part& right = runs[i + 1];
      const bool passes = inside(right) && (right.begin == right.end || right.in.segments.continues_to_right()) &&
                          right.end < c.tokens();
      fold(stream, in, right.adjoint, right.head_steps, passes, right.adjoint_in, r.adjoint_in);
    }
    const TensorView d_y = rows(in, "d_y", r.begin, r.end);
    selective_scan_adjoint_summary(stream, {.in = r.in, .d_y = d_y, .adjoint = r.adjoint, .sum_delta = r.head_steps});
    selective_scan_backward(stream, {.in = r.in,
                                     .states = r.states,
                                     .adjoint_in = r.adjoint_in,
                                     .d_y = d_y,
                                     .d_u = rows(out, "d_u", r.begin, r.end),
                                     .d_delta = rows(out, "d_delta", r.begin, r.end),
                                     .d_B = rows(out, "d_B", r.begin, r.end),
                                     .d_C = rows(out, "d_C", r.begin, r.end),
                                     .d_z = rows(out, "d_z", r.begin, r.end),
                                     .d_A = view(out, "d_A"),
                                     .d_D = view(out, "d_D"),
                                     .d_delta_bias = view(out, "d_delta_bias")});
  }
  return out;
}

struct Tolerance {
  DType dtype;
  double limit;
};
constexpr Tolerance tolerances[] = {{DType::f64, 1e-13}, {DType::f32, 2e-6}, {DType::bf16, 4e-3}};

TEST(SelectiveScan, EqualsTheFormulaInEveryTypeAndShape) {
  const Stream stream;
  for (const Case& c : cases)
    for (const auto [dtype, limit] : tolerances) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const Tensors in = inputs(stream, c, dtype);
      const Values got = values(run(stream, c, in)), want = reference(c, values(in));
      for (const auto& [name, expected] : want) EXPECT_LE(relative_error(got.at(name), expected), limit) << name;
    }
}

TEST(SelectiveScan, GradientsEqualFiniteDifferences) {
  const Stream stream;
  for (const Case& c : cases) {
    if (c.tokens() * c.channels * c.states > 2000 || c.tokens() == 0) continue;
    SCOPED_TRACE(c.name);
    const Tensors in = inputs(stream, c, DType::f64);
    const Tensors out = run(stream, c, in);
    const Tensor y(stream, DType::f64, in.at("u").view().shape);
    const std::vector<Part> runs = cut(stream, c, in, {});
    for (const auto& [name, tensor] : in) {
      if (name == "d_y") continue;
      const auto numeric = finite_differences(tensor, [&] {
        selective_scan_forward(stream, {.in = runs.front().in, .state_in = {}, .y = y, .states = {}});
        return dot(y, view(in, "d_y"));
      });
      EXPECT_LT(relative_error(values_of(view(out, "d_" + name)), numeric), 1e-7) << name;
    }
  }
}

TEST(SelectiveScan, GradientOfTheInputIsTheAdjointOfTheMapFromItToTheOutput) {
  const Stream stream;
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Tensors in = inputs(stream, c, DType::f64);
    const Tensors out = run(stream, c, in);
    EXPECT_LT(adjoint_mismatch(values_of(out.at("y")), values_of(in.at("d_y")), values_of(in.at("u")),
                               values_of(out.at("d_u"))),
              1e-15);
  }
}

TEST(SelectiveScan, PackedEqualsOneDocumentAtATimeBitForBit) {
  const Stream stream;
  for (const Case& c : cases)
    for (const auto [dtype, limit] : tolerances) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const Tensors in = inputs(stream, c, dtype);
      const Tensors packed = run(stream, c, in),
                    alone = run(stream, c, in, {c.cu_seqlens.begin(), c.cu_seqlens.end() - 1});
      for (const auto& [name, tensor] : packed) {
        const bool sum = name == "d_A" || name == "d_D" || name == "d_delta_bias";
        const double error = relative_error(alone.at(name), tensor);
        EXPECT_TRUE(sum ? error <= (dtype == DType::f64 ? 1e-14 : 2e-6) : same_bits(alone.at(name), tensor))
            << name << ": " << error;
      }
    }
}

TEST(SelectiveScan, CutAnywhereEqualsOneRun) {
  const Stream stream;
  for (const Case& c : cases) {
    if (c.tokens() * c.channels * c.states > 4000) continue;
    const Tensors in = inputs(stream, c, DType::f64);
    const Tensors whole = run(stream, c, in);
    for (std::int64_t first = 0; first <= c.tokens(); ++first)
      for (const std::int64_t second : {first, std::min(first + 1, c.tokens()), std::min(first + 9, c.tokens())}) {
        SCOPED_TRACE(fmt::format("{} cut at {} and {}", c.name, first, second));
        const Tensors parts = run(stream, c, in, {first, second});
        for (const auto& [name, tensor] : whole) EXPECT_LE(relative_error(parts.at(name), tensor), 1e-13) << name;
      }
  }
}

TEST(SelectiveScan, SummariesCoverOnlyTheDocumentThatCrossesTheEdge) {
  const Stream stream;
  const Case c{"two documents", 3, 2, {0, 70, 140}, true, true, true};
  const Tensors in = inputs(stream, c, DType::f64);
  std::vector<Part> runs = cut(stream, c, in, {70});
  const Tensor state(stream, DType::f64, {3, 2}), steps(stream, DType::f64, {3});
  selective_scan_summary(stream, {.in = runs[1].in, .state = runs[1].state, .sum_delta = runs[1].tail_steps});
  const std::vector<Part> whole = cut(stream, c, in, {});
  selective_scan_summary(stream, {.in = whole[0].in, .state = state, .sum_delta = steps});
  EXPECT_TRUE(same_bits(state, runs[1].state));
  EXPECT_TRUE(same_bits(steps, runs[1].tail_steps));
  selective_scan_adjoint_summary(
      stream,
      {.in = runs[0].in, .d_y = rows(in, "d_y", 0, 70), .adjoint = runs[0].adjoint, .sum_delta = runs[0].head_steps});
  selective_scan_adjoint_summary(stream,
                                 {.in = whole[0].in, .d_y = in.at("d_y"), .adjoint = state, .sum_delta = steps});
  EXPECT_TRUE(same_bits(state, runs[0].adjoint));
  EXPECT_TRUE(same_bits(steps, runs[0].head_steps));
}

TEST(SelectiveScan, SumsTheStepsOfALongRunWithoutLosingDigits) {
  const Stream stream;
  const Case c{"long", 1, 1, {0, 200000}, false, false, false};
  const Tensors in = inputs(stream, c, DType::f32);
  const std::vector<Part> runs = cut(stream, c, in, {});
  selective_scan_summary(stream, {.in = runs[0].in, .state = runs[0].state, .sum_delta = runs[0].tail_steps});
  double sum = 0;
  for (const double step : values_of(in.at("delta"))) sum += step;
  EXPECT_LT(relative_error(values_of(runs[0].tail_steps), std::vector{sum}), 1e-7);
}

TEST(SelectiveScan, NonFiniteValuesStayInTheirDocument) {
  const Stream stream;
  const Case c{"three documents", 19, 3, {0, 30, 60, 90}};
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const auto [dtype, limit] : tolerances)
    for (const double poison : {std::nan(""), infinity, -infinity})
      for (const char* where : {"u", "delta", "z", "B", "C", "d_y"})
        for (const std::vector<std::int64_t>& cuts : {std::vector<std::int64_t>{}, {29}, {31}, {59}, {60}, {61}}) {
          SCOPED_TRACE(
              fmt::format("{} in {} of {}, cut at {}", poison, where, name_of(dtype), cuts.empty() ? 0 : cuts[0]));
          const Tensors in = inputs(stream, c, dtype);
          const Tensors clean = run(stream, c, in, cuts);
          const TensorView target = in.at(where);
          for (const std::int64_t t : {30, 45, 59})
            assign(target.slice_rows(t, 1), std::vector<double>(static_cast<std::size_t>(target.columns()), poison));
          const Tensors out = run(stream, c, in, cuts);
          for (const char* name : {"y", "d_u", "d_delta", "d_z", "d_B", "d_C"})
            for (const std::int64_t begin : {0, 60})
              EXPECT_TRUE(same_bits(rows(out, name, begin, begin + 30), rows(clean, name, begin, begin + 30))) << name;
        }
}

TEST(SelectiveScan, AddsToParameterGradients) {
  const Stream stream;
  const Case c = cases[1];
  const Tensors in = inputs(stream, c, DType::f64);
  const Tensors once = run(stream, c, in), out = outputs(stream, in);
  const std::vector<Part> runs = cut(stream, c, in, {});
  selective_scan_forward(stream, {.in = runs[0].in, .state_in = {}, .y = out.at("y"), .states = runs[0].states});
  const auto start = values_of(random_tensor(stream, DType::f64, {c.channels, c.states}, 99));
  assign(out.at("d_A"), start);
  for (int repeat = 0; repeat < 2; ++repeat)
    selective_scan_backward(stream, {.in = runs[0].in,
                                     .states = runs[0].states,
                                     .adjoint_in = {},
                                     .d_y = in.at("d_y"),
                                     .d_u = out.at("d_u"),
                                     .d_delta = out.at("d_delta"),
                                     .d_B = out.at("d_B"),
                                     .d_C = out.at("d_C"),
                                     .d_z = out.at("d_z"),
                                     .d_A = out.at("d_A"),
                                     .d_D = out.at("d_D"),
                                     .d_delta_bias = out.at("d_delta_bias")});
  for (const char* name : {"d_A", "d_D", "d_delta_bias"}) {
    std::vector<double> want = values_of(once.at(name));
    for (std::size_t i = 0; i < want.size(); ++i) want[i] = 2 * want[i] + (std::string("d_A") == name ? start[i] : 0);
    EXPECT_LT(relative_error(values_of(out.at(name)), want), 1e-14) << name;
  }
}

TEST(SelectiveScan, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  Case c{"long", 300, 5, {0}};
  for (std::int64_t end = 1; end < 1500; end += 1 + end / 7) c.cu_seqlens.push_back(end);
  for (const auto [dtype, limit] : tolerances) {
    const Tensors in = inputs(stream, c, dtype);
    Tensors one, other;
    with_threads(1, [&] { one = run(stream, c, in, {700}); });
    for (const int threads : {2, 3, 7}) {
      with_threads(threads, [&] { other = run(stream, c, in, {700}); });
      for (const auto& [name, tensor] : one)
        EXPECT_TRUE(same_bits(tensor, other.at(name))) << name << " on " << threads << " threads";
    }
  }
}

TEST(SelectiveScan, TakesAndGivesColumnsOfWiderMatrices) {
  const Stream stream;
  for (const Case& c : cases)
    for (const auto [dtype, limit] : tolerances) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const Tensors in = inputs(stream, c, dtype);
      const Tensors dense = run(stream, c, in), rest = outputs(stream, in);
      std::map<std::string, Padded> wide;
      for (const char* name : {"u", "delta", "z", "A", "B", "C", "d_y"})
        if (view(in, name).present()) wide.emplace(name, Padded(stream, in.at(name)));
      for (const char* name : {"y", "d_u", "d_delta", "d_z", "d_A", "d_B", "d_C"})
        if (view(rest, name).present()) wide.emplace(name, Padded(stream, rest.at(name)));
      const auto at = [&](const char* name) { return wide.contains(name) ? wide.at(name).view() : TensorView{}; };
      std::vector<Part> runs = cut(stream, c, in, {});
      SelectiveScanInputs& scan = runs[0].in;
      scan.u = at("u"), scan.delta = at("delta"), scan.z = at("z"), scan.A = at("A"), scan.B = at("B"),
      scan.C = at("C");
      selective_scan_forward(stream, {.in = scan, .state_in = {}, .y = at("y"), .states = runs[0].states});
      selective_scan_backward(stream, {.in = scan,
                                       .states = runs[0].states,
                                       .adjoint_in = {},
                                       .d_y = at("d_y"),
                                       .d_u = at("d_u"),
                                       .d_delta = at("d_delta"),
                                       .d_B = at("d_B"),
                                       .d_C = at("d_C"),
                                       .d_z = at("d_z"),
                                       .d_A = at("d_A"),
                                       .d_D = view(rest, "d_D"),
                                       .d_delta_bias = view(rest, "d_delta_bias")});
      for (const auto& [name, padded] : wide) {
        EXPECT_TRUE(padded.padding_untouched()) << name;
        EXPECT_TRUE(!rest.contains(name) || same_bits(padded, dense.at(name))) << name;
      }
    }
}

TEST(SelectiveScan, RefusesShapesThatDoNotFit) {
  const Stream stream;
  const Case c = cases[0];
  const Tensors in = inputs(stream, c, DType::f32);
  std::vector<Part> runs = cut(stream, c, in, {});
  const Tensor y(stream, DType::f32, in.at("u").view().shape),
      few_states(stream, DType::f32, {1, c.channels, c.states});
  EXPECT_NO_THROW(selective_scan_forward(stream, {.in = runs[0].in, .state_in = {}, .y = y, .states = {}}));
  EXPECT_THROW(selective_scan_forward(stream, {.in = runs[0].in, .state_in = {}, .y = y, .states = few_states}), Error);
  runs[0].in.B = runs[0].in.u;
  EXPECT_THROW(selective_scan_forward(stream, {.in = runs[0].in, .state_in = {}, .y = y, .states = {}}), Error);
}

}  // namespace
}  // namespace causeway

#include "kernels/causal_conv.hpp"

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
  std::int64_t channels, taps;
  std::vector<std::int64_t> cu_seqlens;
  Activation activation = Activation::silu;
  bool bias = true;

  std::int64_t tokens() const { return cu_seqlens.back(); }
};

const std::vector<Case> cases = {
    {"one document", 8, 4, {0, 96}},
    {"documents of every length up to W", 6, 4, {0, 1, 3, 6, 10, 15, 16, 17, 40}},
    {"one-token documents", 5, 4, {0, 1, 2, 3, 4, 5, 6, 7}},
    {"fewer tokens than taps", 3, 5, {0, 2}},
    {"one token", 1, 2, {0, 1}},
    {"one tap", 7, 1, {0, 9, 70}},
    {"two taps", 17, 2, {0, 63, 64, 65, 130}},
    {"three taps as in Hyena, no bias", 33, 3, {0, 20, 150}, Activation::none, false},
    {"five taps", 129, 5, {0, 64, 128, 131}},
    {"channels beyond a block, edges of blocks inside documents", 261, 4, {0, 62, 190, 192, 200}},
    {"linear", 16, 4, {0, 7, 77}, Activation::none},
    {"documents of eight", 20, 4, {0, 8, 16, 24, 32, 40, 48, 56, 64, 72}},
    {"no token", 4, 4, {0}},
};

Tensors inputs(const Stream& stream, const Case& c, DType dtype, std::uint64_t seed = 1) {
  Tensors in;
  in["x"] = random_tensor(stream, dtype, {c.tokens(), c.channels}, seed);
  in["weight"] = random_tensor(stream, dtype, {c.channels, c.taps}, seed + 1);
  if (c.bias) in["bias"] = random_tensor(stream, dtype, {c.channels}, seed + 2);
  in["d_y"] = random_tensor(stream, dtype, {c.tokens(), c.channels}, seed + 3);
  return in;
}

Values values(const Tensors& tensors) {
  Values result;
  for (const auto& [name, tensor] : tensors) result[name] = values_of(tensor);
  return result;
}

/// operators.md's formula, document by document, in float64.
Values reference(const Case& c, const Values& in) {
  const auto size = static_cast<std::size_t>(c.tokens() * c.channels);
  Values out{{"y", std::vector<double>(size)}, {"d_x", std::vector<double>(size)}};
  out["d_weight"].resize(static_cast<std::size_t>(c.channels * c.taps));
  if (c.bias) out["d_bias"].resize(static_cast<std::size_t>(c.channels));
  const auto at = [&](std::int64_t t, std::int64_t d) { return static_cast<std::size_t>(t * c.channels + d); };
  const auto tap = [&](std::int64_t d, std::int64_t lag) {
    return static_cast<std::size_t>(d * c.taps + c.taps - 1 - lag);
  };
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s)
    for (std::int64_t t = c.cu_seqlens[s]; t < c.cu_seqlens[s + 1]; ++t)
      for (std::int64_t d = 0; d < c.channels; ++d) {
        const std::int64_t reach = std::min(c.taps, t - c.cu_seqlens[s] + 1);
        double a = c.bias ? in.at("bias")[static_cast<std::size_t>(d)] : 0;
        for (std::int64_t j = 0; j < reach; ++j) a += in.at("weight")[tap(d, j)] * in.at("x")[at(t - j, d)];
        const double open = 1 / (1 + std::exp(-a));
        const bool silu = c.activation == Activation::silu;
        out["y"][at(t, d)] = silu ? a * open : a;
        const double g = in.at("d_y")[at(t, d)] * (silu ? open * (1 + a * (1 - open)) : 1);
        for (std::int64_t j = 0; j < reach; ++j) {
          out["d_x"][at(t - j, d)] += in.at("weight")[tap(d, j)] * g;
          out["d_weight"][tap(d, j)] += g * in.at("x")[at(t - j, d)];
        }
        if (c.bias) out["d_bias"][static_cast<std::size_t>(d)] += g;
      }
  return out;
}

TensorView view(const Tensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  return found == tensors.end() ? TensorView{} : found->second.view();
}

/// Forward and backward of the kernels over runs of tokens cut at `cuts`, each run seeing the others through its halo
/// alone. Halo rows that no document reaches hold NaN.
Tensors run(const Stream& stream, const Case& c, const Tensors& in, std::vector<std::int64_t> cuts = {}) {
  const DType dtype = in.at("x").view().dtype, accumulator = accumulator_of(dtype);
  Tensors out;
  out["y"] = Tensor::zeros(stream, dtype, {c.tokens(), c.channels});
  out["d_x"] = Tensor::zeros(stream, dtype, {c.tokens(), c.channels});
  out["d_weight"] = Tensor::zeros(stream, accumulator, {c.channels, c.taps});
  if (c.bias) out["d_bias"] = Tensor::zeros(stream, accumulator, {c.channels});
  const Segments segments(c.cu_seqlens);
  const std::int64_t reach = c.taps - 1;
  cuts.push_back(c.tokens());
  std::int64_t begin = 0;
  for (const std::int64_t end : cuts) {
    const auto rows = [&](const Tensors& tensors, const char* name) {
      return view(tensors, name).slice_rows(begin, end - begin);
    };
    const auto cu_seqlens = segments.slice(begin, end);
    const SegmentsView documents = segments_view(cu_seqlens, end - begin);
    Tensor halo, d_halo;
    if (documents.continues_from_left()) {
      halo = Tensor(stream, dtype, {reach, c.channels});
      d_halo = Tensor(stream, dtype, {reach, c.channels});
      std::vector<double> rows_before(static_cast<std::size_t>(halo.view().size()), std::nan(""));
      const std::vector<double> x = values_of(view(in, "x"));
      for (std::int64_t t = std::max(-reach, cu_seqlens[0]); t < 0; ++t)
        for (std::int64_t d = 0; d < c.channels; ++d)
          rows_before[static_cast<std::size_t>((reach + t) * c.channels + d)] =
              x[static_cast<std::size_t>((begin + t) * c.channels + d)];
      assign(halo, rows_before);
      assign(d_halo, rows_before);  // garbage: the kernel has to write every row
    }
    causal_conv_forward(stream, {.x = rows(in, "x"),
                                 .halo = halo,
                                 .weight = view(in, "weight"),
                                 .bias = view(in, "bias"),
                                 .segments = documents,
                                 .activation = c.activation,
                                 .y = rows(out, "y")});
    causal_conv_backward(stream, {.x = rows(in, "x"),
                                  .halo = halo,
                                  .weight = view(in, "weight"),
                                  .bias = view(in, "bias"),
                                  .segments = documents,
                                  .activation = c.activation,
                                  .d_y = rows(in, "d_y"),
                                  .d_x = rows(out, "d_x"),
                                  .d_halo = d_halo,
                                  .d_weight = view(out, "d_weight"),
                                  .d_bias = view(out, "d_bias")});
    if (d_halo.present() && reach > 0) {
      const std::vector<double> returned = values_of(d_halo), now = values_of(view(out, "d_x"));
      std::vector<double> sum = now;
      for (std::int64_t i = 0; i < static_cast<std::int64_t>(returned.size()); ++i) {
        const std::int64_t to = (begin - reach) * c.channels + i;
        if (to >= 0)
          sum[static_cast<std::size_t>(to)] += returned[static_cast<std::size_t>(i)];
        else
          EXPECT_EQ(returned[static_cast<std::size_t>(i)], 0) << "a gradient for tokens before the pack";
      }
      assign(view(out, "d_x"), sum);
    }
    begin = end;
  }
  return out;
}

struct Tolerance {
  DType dtype;
  double limit;
};
constexpr Tolerance tolerances[] = {{DType::f64, 1e-14}, {DType::f32, 1e-6}, {DType::bf16, 4e-3}};

TEST(CausalConv, EqualsTheFormulaInEveryTypeAndShape) {
  const Stream stream;
  for (const Case& c : cases)
    for (const auto [dtype, limit] : tolerances) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const Tensors in = inputs(stream, c, dtype);
      const Values got = values(run(stream, c, in)), want = reference(c, values(in));
      for (const auto& [name, expected] : want) EXPECT_LE(relative_error(got.at(name), expected), limit) << name;
    }
}

TEST(CausalConv, GradientsEqualFiniteDifferences) {
  const Stream stream;
  for (const Case& c : cases) {
    if (c.tokens() * c.channels > 800) continue;
    SCOPED_TRACE(c.name);
    const Tensors in = inputs(stream, c, DType::f64);
    const Tensors out = run(stream, c, in);
    for (const char* name : {"x", "weight", "bias"}) {
      if (!view(in, name).present() || c.tokens() == 0) continue;
      const auto numeric =
          finite_differences(view(in, name), [&] { return dot(run(stream, c, in).at("y"), view(in, "d_y")); });
      EXPECT_LT(relative_error(values_of(view(out, std::string("d_") + name)), numeric), 1e-8) << name;
    }
  }
}

TEST(CausalConv, InputGradientIsTheAdjointOfTheLinearConvolution) {
  const Stream stream;
  for (Case c : cases) {
    SCOPED_TRACE(c.name);
    c.activation = Activation::none;
    c.bias = false;
    const Tensors in = inputs(stream, c, DType::f64);
    const Tensors out = run(stream, c, in);
    EXPECT_LT(adjoint_mismatch(values_of(out.at("y")), values_of(in.at("d_y")), values_of(in.at("x")),
                               values_of(out.at("d_x"))),
              1e-15);
  }
}

TEST(CausalConv, PackedEqualsOneDocumentAtATimeBitForBit) {
  const Stream stream;
  for (const Case& c : cases)
    for (const auto [dtype, limit] : tolerances) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const Tensors in = inputs(stream, c, dtype);
      const Tensors packed = run(stream, c, in);
      // Cut where documents start: no run continues another, so none gets a halo.
      const Tensors alone = run(stream, c, in, {c.cu_seqlens.begin(), c.cu_seqlens.end() - 1});
      EXPECT_TRUE(same_bits(packed.at("y"), alone.at("y")));
      EXPECT_TRUE(same_bits(packed.at("d_x"), alone.at("d_x")));
      EXPECT_LE(relative_error(alone.at("d_weight"), packed.at("d_weight")), dtype == DType::f64 ? 1e-14 : 1e-6);
    }
}

TEST(CausalConv, CutAnywhereEqualsOneRun) {
  const Stream stream;
  for (const Case& c : cases) {
    if (c.tokens() * c.channels > 2300) continue;
    const Tensors in = inputs(stream, c, DType::f64);
    const Tensors whole = run(stream, c, in);
    for (std::int64_t cut = 0; cut <= c.tokens(); ++cut)
      for (const std::int64_t second : {cut, std::min(cut + 1, c.tokens()), std::min(cut + c.taps, c.tokens())}) {
        SCOPED_TRACE(fmt::format("{} cut at {} and {}", c.name, cut, second));
        const Tensors parts = run(stream, c, in, {cut, second});
        for (const auto& [name, tensor] : whole) EXPECT_LE(relative_error(parts.at(name), tensor), 1e-14) << name;
      }
  }
}

TEST(CausalConv, NonFiniteValuesStayInTheirDocument) {
  const Stream stream;
  const Case c{"three documents", 19, 4, {0, 30, 60, 90}};
  for (const auto [dtype, limit] : tolerances)
    for (const double poison :
         {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()})
      for (const char* where : {"x", "d_y"})
        for (const std::vector<std::int64_t>& cuts : {std::vector<std::int64_t>{}, {29}, {31}, {59}, {60}, {61}}) {
          SCOPED_TRACE(
              fmt::format("{} in {} of {}, cut at {}", poison, where, name_of(dtype), cuts.empty() ? 0 : cuts[0]));
          const Tensors in = inputs(stream, c, dtype);
          const Tensors clean = run(stream, c, in, cuts);
          std::vector<double> poisoned = values_of(in.at(where));
          for (const std::int64_t t : {30, 45, 59})
            for (std::int64_t d = 0; d < c.channels; ++d)
              poisoned[static_cast<std::size_t>(t * c.channels + d)] = poison;
          assign(in.at(where), poisoned);
          const Tensors out = run(stream, c, in, cuts);
          for (const char* name : {"y", "d_x"})
            for (const std::int64_t begin : {0, 60})
              EXPECT_TRUE(
                  same_bits(out.at(name).view().slice_rows(begin, 30), clean.at(name).view().slice_rows(begin, 30)))
                  << name;
        }
}

TEST(CausalConv, ANonFiniteWeightMeetsOnlyTokensThatReachBackToIt) {
  const Stream stream;
  const Case c{"two documents", 3, 4, {0, 5, 9}};
  const Tensors in = inputs(stream, c, DType::f64);
  for (std::int64_t d = 0; d < c.channels; ++d)
    in.at("weight").view().row<double>(d)[0] = std::numeric_limits<double>::infinity();
  const std::vector<double> y = values_of(run(stream, c, in).at("y"));
  for (std::int64_t t = 0; t < c.tokens(); ++t)
    for (std::int64_t d = 0; d < c.channels; ++d) {
      const bool reaches = (t < 5 ? t : t - 5) >= 3;
      EXPECT_EQ(std::isfinite(y[static_cast<std::size_t>(t * c.channels + d)]), !reaches) << t;
    }
}

TEST(CausalConv, AddsToParameterGradients) {
  const Stream stream;
  const Case c = cases[1];
  const Tensors in = inputs(stream, c, DType::f64);
  const SegmentsView documents = segments_view(c.cu_seqlens, c.tokens());
  const Tensors once = run(stream, c, in);
  const Tensor d_x(stream, DType::f64, {c.tokens(), c.channels});
  const auto before = values_of(random_tensor(stream, DType::f64, {c.channels, c.taps}, 9));
  const Tensor d_weight = tensor_of(stream, DType::f64, {c.channels, c.taps}, before),
               d_bias = Tensor::zeros(stream, DType::f64, {c.channels});
  for (int repeat = 0; repeat < 2; ++repeat)
    causal_conv_backward(stream, {.x = in.at("x"),
                                  .halo = {},
                                  .weight = in.at("weight"),
                                  .bias = in.at("bias"),
                                  .segments = documents,
                                  .activation = c.activation,
                                  .d_y = in.at("d_y"),
                                  .d_x = d_x,
                                  .d_halo = {},
                                  .d_weight = d_weight,
                                  .d_bias = d_bias});
  auto want = before;
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += 2 * values_of(once.at("d_weight"))[i];
  EXPECT_LT(relative_error(values_of(d_weight), want), 1e-14);
  want = values_of(once.at("d_bias"));
  for (double& value : want) value *= 2;
  EXPECT_LT(relative_error(values_of(d_bias), want), 1e-14);
}

TEST(CausalConv, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  Case c{"long", 300, 4, {0}};
  for (std::int64_t end = 1; end < 5000; end += 1 + end / 7) c.cu_seqlens.push_back(end);
  for (const auto [dtype, limit] : tolerances) {
    const Tensors in = inputs(stream, c, dtype);
    Tensors one, other;
    with_threads(1, [&] { one = run(stream, c, in); });
    for (const int threads : {2, 3, 7}) {
      with_threads(threads, [&] { other = run(stream, c, in); });
      for (const auto& [name, tensor] : one)
        EXPECT_TRUE(same_bits(tensor, other.at(name))) << name << " on " << threads << " threads";
    }
  }
}

TEST(CausalConv, TakesAndGivesColumnsOfWiderMatrices) {
  const Stream stream;
  for (const Case& c : cases)
    for (const auto [dtype, limit] : tolerances) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const Tensors in = inputs(stream, c, dtype);
      const Tensors dense = run(stream, c, in);
      const Padded x(stream, in.at("x")), d_y(stream, in.at("d_y")), weight(stream, in.at("weight"));
      const Padded y(stream, dense.at("d_x")), d_x(stream, dense.at("y"));
      const Padded d_weight(stream, Tensor::zeros(stream, accumulator_of(dtype), {c.channels, c.taps}));
      const SegmentsView documents = segments_view(c.cu_seqlens, c.tokens());
      const Tensor d_bias = c.bias ? Tensor::zeros(stream, accumulator_of(dtype), {c.channels}) : Tensor();
      causal_conv_forward(stream, {.x = x,
                                   .halo = {},
                                   .weight = weight,
                                   .bias = view(in, "bias"),
                                   .segments = documents,
                                   .activation = c.activation,
                                   .y = y});
      causal_conv_backward(stream, {.x = x,
                                    .halo = {},
                                    .weight = weight,
                                    .bias = view(in, "bias"),
                                    .segments = documents,
                                    .activation = c.activation,
                                    .d_y = d_y,
                                    .d_x = d_x,
                                    .d_halo = {},
                                    .d_weight = d_weight,
                                    .d_bias = d_bias});
      EXPECT_TRUE(same_bits(y, dense.at("y")) && y.padding_untouched());
      EXPECT_TRUE(same_bits(d_x, dense.at("d_x")) && d_x.padding_untouched());
      EXPECT_TRUE(same_bits(d_weight, dense.at("d_weight")) && d_weight.padding_untouched());
    }
}

TEST(CausalConv, RefusesAMissingHaloAndShapesThatDoNotFit) {
  const Stream stream;
  const Case c{"run inside a document", 4, 4, {0, 12}};
  const Tensors in = inputs(stream, c, DType::f32);
  const std::vector<std::int64_t> continued{-3, 12};
  const Tensor y(stream, DType::f32, {12, 4}), narrow(stream, DType::f32, {12, 3});
  const auto call = [&](const std::vector<std::int64_t>& cu_seqlens, TensorView to) {
    causal_conv_forward(stream, {.x = in.at("x"),
                                 .halo = {},
                                 .weight = in.at("weight"),
                                 .bias = in.at("bias"),
                                 .segments = segments_view(cu_seqlens, 12),
                                 .activation = c.activation,
                                 .y = to});
  };
  EXPECT_NO_THROW(call(c.cu_seqlens, y));
  EXPECT_THROW(call(continued, y), Error);
  EXPECT_THROW(call(c.cu_seqlens, narrow), Error);
}

TEST(CausalConv, AnEmptyRunReturnsAHaloGradientOfZeros) {
  const Stream stream;
  const Case c{"no token", 4, 4, {0}};
  const Tensors in = inputs(stream, c, DType::f64);
  const Tensor halo = random_tensor(stream, DType::f64, {3, 4}, 1),
               d_halo = random_tensor(stream, DType::f64, {3, 4}, 2);
  const Tensor d_x(stream, DType::f64, {0, 4}), d_weight = Tensor::zeros(stream, DType::f64, {4, 4}),
                                                d_bias = Tensor::zeros(stream, DType::f64, {4});
  causal_conv_backward(stream, {.x = in.at("x"),
                                .halo = halo,
                                .weight = in.at("weight"),
                                .bias = in.at("bias"),
                                .segments = segments_view(c.cu_seqlens, 0),
                                .activation = c.activation,
                                .d_y = in.at("d_y"),
                                .d_x = d_x,
                                .d_halo = d_halo,
                                .d_weight = d_weight,
                                .d_bias = d_bias});
  EXPECT_EQ(norm(values_of(d_halo)), 0);
  EXPECT_EQ(norm(values_of(d_weight)), 0);
}

}  // namespace
}  // namespace causeway

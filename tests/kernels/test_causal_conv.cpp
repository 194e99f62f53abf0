#include "kernels/causal_conv.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "kernels/activation.hpp"
#include "tests/support/packed_operator.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

struct Convolution {
  std::string name;
  std::int64_t channels, taps;
  std::vector<std::int64_t> cu_seqlens;
  Activation activation = Activation::silu;
  bool bias = true;
};

/// The formula of kernels/causal_conv.hpp.
Values reference(const Convolution& c, const Values& in) {
  const std::int64_t D = c.channels, W = c.taps, T = c.cu_seqlens.back();
  const auto at = [&](std::int64_t t, std::int64_t d) { return static_cast<std::size_t>(t * D + d); };
  const auto tap = [&](std::int64_t d, std::int64_t lag) { return static_cast<std::size_t>(d * W + W - 1 - lag); };
  Values out;
  for (const char* name : {"y", "d_x"}) out[name].resize(static_cast<std::size_t>(T * D));
  out["d_weight"].resize(static_cast<std::size_t>(D * W));
  if (c.bias) out["d_bias"].resize(static_cast<std::size_t>(D));
  for (std::size_t s = 0; s + 1 < c.cu_seqlens.size(); ++s)
    for (std::int64_t t = c.cu_seqlens[s]; t < c.cu_seqlens[s + 1]; ++t)
      for (std::int64_t d = 0; d < D; ++d) {
        const std::int64_t reach = std::min(W, t - c.cu_seqlens[s] + 1);
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

/// The pack divided into runs at `cuts`. A run gets earlier rows only through its halo; halo rows that no document
/// reaches hold NaN.
void run(const Convolution& c, const Stream& stream, const Views& in, const Views& out, const Segments& segments,
         const std::vector<std::int64_t>& cuts) {
  const std::int64_t reach = c.taps - 1;
  for (const PackedRun& run : runs_of(segments, cuts)) {
    const std::int64_t begin = run.begin, end = run.end;
    Tensor halo, d_halo;
    std::int64_t before = 0;  // rows of the halo that a document reaches
    if (run.segments().continues_from_left()) {
      before = std::min(reach, -run.cu_seqlens[0]);
      for (Tensor* tensor : {&halo, &d_halo}) {
        *tensor = Tensor(stream, view(in, "x").dtype, {reach, c.channels});
        fill(stream, {.value = std::nan(""), .y = *tensor});
      }
      scale(stream, {.x = rows(in, "x", begin - before, begin), .y = halo.view().slice_rows(reach - before, before)});
    }
    causal_conv_forward(stream, {.x = rows(in, "x", begin, end),
                                 .halo = halo,
                                 .weight = view(in, "weight"),
                                 .bias = view(in, "bias"),
                                 .segments = run.segments(),
                                 .activation = c.activation,
                                 .y = rows(out, "y", begin, end)});
    causal_conv_backward(stream, {.x = rows(in, "x", begin, end),
                                  .halo = halo,
                                  .weight = view(in, "weight"),
                                  .bias = view(in, "bias"),
                                  .segments = run.segments(),
                                  .activation = c.activation,
                                  .d_y = rows(in, "d_y", begin, end),
                                  .d_x = rows(out, "d_x", begin, end),
                                  .d_halo = d_halo,
                                  .d_weight = view(out, "d_weight"),
                                  .d_bias = view(out, "d_bias")});
    if (before > 0) {
      scale(stream, {.x = d_halo.view().slice_rows(reach - before, before),
                     .accumulate = true,
                     .y = rows(out, "d_x", begin - before, begin)});
      EXPECT_EQ(norm(values_of(d_halo.view().slice_rows(0, reach - before))), 0)
          << "a gradient of rows that no document reaches";
    }
  }
}

PackedCase packed(const Convolution& c) {
  const std::int64_t D = c.channels, T = c.cu_seqlens.back();
  PackedCase result{.name = c.name,
                    .cu_seqlens = c.cu_seqlens,
                    .inputs = {{"d_y", {T, D}}, {"x", {T, D}}},
                    .linear_in = "x",
                    .run = std::bind_front(run, c),
                    .reference = std::bind_front(reference, c)};
  result.inputs.push_back({.name = "weight", .shape = {D, c.taps}, .tokenwise = false});
  if (c.bias) result.inputs.push_back({.name = "bias", .shape = {D}, .tokenwise = false});
  return result;
}

const std::vector<Convolution> convolutions = {
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
const std::vector<PackedCase> cases = packed_cases(convolutions);

TEST(CausalConv, EqualsTheFormulaInEveryTypeAndShape) {
  expect_equal_to_the_formula(cases, {.f64 = 1e-14, .f32 = 1e-6, .bf16 = 4e-3});
}
TEST(CausalConv, GradientsEqualFiniteDifferences) { expect_gradients_equal_to_finite_differences(cases, 1e-8, 800); }
TEST(CausalConv, PackedEqualsOneDocumentAtATimeBitForBit) {
  expect_packed_equal_to_one_document_at_a_time_bit_for_bit(cases, {.f64 = 1e-14, .f32 = 1e-6, .bf16 = 1e-6});
}
TEST(CausalConv, CutAnywhereEqualsOneRun) { expect_cut_anywhere_equal_to_one_run(cases, 1e-14, {0, 1, 3, 4, 5}); }
TEST(CausalConv, WritesResultsAndAddsToParameterGradients) {
  expect_results_are_written_and_parameter_gradients_added_to(cases);
}
TEST(CausalConv, AcceptsColumnsOfWiderMatrices) { expect_row_strides_are_free(cases); }

TEST(CausalConv, BackwardOfTheLinearConvolutionIsItsAdjoint) {
  std::vector<Convolution> linear = convolutions;
  for (Convolution& c : linear) c.activation = Activation::none, c.bias = false;
  expect_backward_is_the_adjoint(packed_cases(linear), 1e-15);
}

TEST(CausalConv, NonFiniteValuesStayInTheirDocument) {
  expect_non_finite_values_stay_in_their_document(packed({"three documents", 19, 4, {0, 30, 60, 90}}),
                                                  {{}, {29}, {31}, {59}, {60}, {61}});
}

TEST(CausalConv, ATokenDependsOnlyOnEarlierTokensWithinReach) {
  expect_a_token_depends_only_on_earlier_tokens(packed({"one document", 9, 4, {0, 40}}), 4);
}

TEST(CausalConv, GivesTheSameBitsOnAnyNumberOfThreads) {
  expect_same_bits_on_any_number_of_threads(packed({"long", 300, 4, growing_documents(5000)}), {2500});
}

TEST(CausalConv, ANonFiniteWeightChangesOnlyTokensThatUseIt) {
  const Stream stream;
  const PackedCase c = packed({"two documents", 3, 4, {0, 5, 9}});
  const NamedTensors in = inputs_of(c, stream, DType::f64);
  for (std::int64_t d = 0; d < 3; ++d) in["weight"].row<double>(d)[0] = std::numeric_limits<double>::infinity();
  const NamedTensors out = run_case(c, stream, in);
  for (std::int64_t t = 0; t < c.tokens(); ++t)
    for (std::int64_t d = 0; d < 3; ++d) {
      const bool reaches = (t < 5 ? t : t - 5) >= 3;
      EXPECT_EQ(std::isfinite(out["y"].row<double>(t)[d]), !reaches) << t;
    }
}

TEST(CausalConv, RefusesAMissingHaloAndShapesThatDoNotFit) {
  const Stream stream;
  const NamedTensors in = inputs_of(packed({"run inside a document", 4, 4, {0, 12}}), stream, DType::f32);
  const std::vector<std::int64_t> whole{0, 12}, continued{-3, 12};
  const Tensor y(stream, DType::f32, {12, 4}), narrow(stream, DType::f32, {12, 3});
  const auto call = [&](const std::vector<std::int64_t>& cu_seqlens, TensorView to) {
    causal_conv_forward(stream, {.x = in["x"],
                                 .halo = {},
                                 .weight = in["weight"],
                                 .bias = in["bias"],
                                 .segments = segments_view(cu_seqlens, 12),
                                 .y = to});
  };
  EXPECT_NO_THROW(call(whole, y));
  EXPECT_THROW(call(continued, y), Error);
  EXPECT_THROW(call(whole, narrow), Error);
}

/// d_y + a·b in float64.
std::vector<double> with_product(TensorView d_y, TensorView a, TensorView b) {
  std::vector<double> sum = values_of(d_y);
  const std::vector<double> left = values_of(a), right = values_of(b);
  const std::int64_t K = b.rows(), D = b.columns();
  for (std::int64_t t = 0; t < d_y.rows(); ++t)
    for (std::int64_t k = 0; k < K; ++k)
      for (std::int64_t d = 0; d < D; ++d)
        sum[static_cast<std::size_t>(t * D + d)] +=
            left[static_cast<std::size_t>(t * K + k)] * right[static_cast<std::size_t>(k * D + d)];
  return sum;
}

TEST(CausalConv, AProductIsAddedToTheGradientOfY) {
  const Stream stream;
  for (const Convolution& c : convolutions)
    for (const DType dtype : floating_types) {
      SCOPED_TRACE(fmt::format("{} in {}", c.name, name_of(dtype)));
      const std::int64_t T = c.cu_seqlens.back(), D = c.channels, K = 6;
      const NamedTensors in = inputs_of(packed(c), stream, dtype);
      const Tensor a = random_tensor(stream, dtype, {T, K}, 21), b = random_tensor(stream, dtype, {K, D}, 22);
      const auto backward = [&](TensorView d_y, TensorView left, TensorView right) {
        NamedTensors out;
        out.add("d_x", Tensor(stream, dtype, {T, D}));
        out.add("d_weight", Tensor::zeros(stream, accumulator_of(dtype), {D, c.taps}));
        out.add("d_bias", Tensor::zeros(stream, accumulator_of(dtype), {D}));
        causal_conv_backward(stream, {.x = in["x"],
                                      .weight = in["weight"],
                                      .bias = c.bias ? in["bias"] : TensorView(),
                                      .segments = segments_view(c.cu_seqlens, T),
                                      .activation = c.activation,
                                      .d_y = d_y,
                                      .d_y_product = {.a = left, .b = right},
                                      .d_x = out["d_x"],
                                      .d_weight = out["d_weight"],
                                      .d_bias = c.bias ? out["d_bias"] : TensorView()});
        return out;
      };
      const Tensor d_y = converted(stream, in["d_y"], dtype),
                   sum = tensor_of(stream, dtype, {T, D}, with_product(in["d_y"], a, b));
      const NamedTensors want = backward(sum, {}, {}), got = backward(d_y, a, b);
      for (const char* name : {"d_x", "d_weight", "d_bias"})
        EXPECT_LE(relative_error(got[name], want[name]), dtype == DType::f64   ? 1e-14
                                                         : dtype == DType::f32 ? 1e-6
                                                                               : 1e-2)
            << name;
    }
}

/// The product is the gradient that y receives as an input of z = y·bᵀ, whose gradient is a: the backward is that of
/// Σ d_y ⊙ y + Σ a ⊙ z.
TEST(CausalConv, GradientsWithAProductEqualFiniteDifferences) {
  const Stream stream;
  const Convolution c{"documents", 3, 4, {0, 5, 6, 17}};
  const std::int64_t T = 17, D = 3, K = 5;
  const NamedTensors in = inputs_of(packed(c), stream, DType::f64);
  const Tensor a = random_tensor(stream, DType::f64, {T, K}, 21), b = random_tensor(stream, DType::f64, {K, D}, 22),
               y(stream, DType::f64, {T, D}), z(stream, DType::f64, {T, K}), d_x(stream, DType::f64, {T, D}),
               d_weight = Tensor::zeros(stream, DType::f64, {D, 4}), d_bias = Tensor::zeros(stream, DType::f64, {D}),
               d_y = converted(stream, in["d_y"], DType::f64);
  const auto loss = [&] {
    causal_conv_forward(stream, {.x = in["x"],
                                 .weight = in["weight"],
                                 .bias = in["bias"],
                                 .segments = segments_view(c.cu_seqlens, T),
                                 .activation = c.activation,
                                 .y = y});
    gemm(stream, {.a = y, .b = b, .transpose_b = true, .c = z});
    return dot(values_of(in["d_y"]), values_of(y)) + dot(values_of(a), values_of(z));
  };
  causal_conv_backward(stream, {.x = in["x"],
                                .weight = in["weight"],
                                .bias = in["bias"],
                                .segments = segments_view(c.cu_seqlens, T),
                                .activation = c.activation,
                                .d_y = d_y,
                                .d_y_product = {.a = a, .b = b},
                                .d_x = d_x,
                                .d_weight = d_weight,
                                .d_bias = d_bias});
  const auto compare = [&](TensorView input, TensorView gradient, const char* name) {
    auto* const values = static_cast<double*>(input.data);
    const std::vector<double> got = values_of(gradient);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double before = values[i], step = 1e-5;
      values[i] = before + step;
      const double above = loss();
      values[i] = before - step;
      const double below = loss();
      values[i] = before;
      EXPECT_NEAR(got[i], (above - below) / (2 * step), 1e-8) << name << " " << i;
    }
  };
  compare(in["x"], d_x, "d_x");
  compare(in["weight"], d_weight, "d_weight");
  compare(in["bias"], d_bias, "d_bias");
}

TEST(CausalConv, AnEmptyRunReturnsAHaloGradientOfZeros) {
  const Stream stream;
  const PackedCase c = packed({"no token", 4, 4, {0}});
  const NamedTensors in = inputs_of(c, stream, DType::f64), out = run_case(c, stream, in);
  const Tensor halo = random_tensor(stream, DType::f64, {3, 4}, 1),
               d_halo = random_tensor(stream, DType::f64, {3, 4}, 2);
  causal_conv_backward(stream, {.x = in["x"],
                                .halo = halo,
                                .weight = in["weight"],
                                .bias = in["bias"],
                                .segments = segments_view(c.cu_seqlens, 0),
                                .activation = Activation::silu,
                                .d_y = in["d_y"],
                                .d_x = out["d_x"],
                                .d_halo = d_halo,
                                .d_weight = out["d_weight"],
                                .d_bias = out["d_bias"]});
  EXPECT_EQ(norm(values_of(d_halo)), 0);
  EXPECT_EQ(norm(values_of(out["d_weight"])), 0);
}

}  // namespace
}  // namespace causeway

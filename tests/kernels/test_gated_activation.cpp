#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "kernels/activation.hpp"
#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway {
namespace {

using namespace causeway::test;

constexpr Activation activations[] = {Activation::none, Activation::silu, Activation::gelu};
constexpr DType dtypes[] = {DType::f64, DType::f32, DType::bf16};

double limit(DType dtype) { return dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 5e-7 : 4e-3; }

double value_of(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x * std::erfc(-x * std::numbers::sqrt2 / 2) / 2;
  }
  return std::nan("");
}

double slope_of(Activation activation, double x) {
  const double open = 1 / (1 + std::exp(-x));
  switch (activation) {
    case Activation::none:
      return 1;
    case Activation::silu:
      return open * (1 + x * (1 - open));
    case Activation::gelu:
      return std::erfc(-x * std::numbers::sqrt2 / 2) / 2 +
             x * std::exp(-x * x / 2) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
  }
  return std::nan("");
}

/// a, b and d_y, each as columns of a wider matrix, and the expected results.
struct Example {
  Example(const Stream& stream, Activation activation, DType dtype, Shape shape)
      : a(stream, random_tensor(stream, dtype, shape, 1, -6, 6)),
        b(stream, random_tensor(stream, dtype, shape, 2)),
        d_y(stream, random_tensor(stream, dtype, shape, 3)) {
    const std::vector<double> as = values_of(a), bs = values_of(b), gs = values_of(d_y);
    for (std::size_t i = 0; i < as.size(); ++i) {
      y.push_back(value_of(activation, as[i]) * bs[i]);
      d_a.push_back(gs[i] * bs[i] * slope_of(activation, as[i]));
      d_b.push_back(gs[i] * value_of(activation, as[i]));
    }
  }
  Padded a, b, d_y;
  std::vector<double> y, d_a, d_b;
};

TEST(GatedActivation, EqualsTheFormulaInEveryTypeOnColumnsOfWiderMatrices) {
  const Stream stream;
  for (const Activation activation : activations)
    for (const DType dtype : dtypes)
      for (const Shape& shape : {Shape{1, 1}, Shape{37, 19}, Shape{3, 5000}, Shape{0, 4}}) {
        SCOPED_TRACE(fmt::format("{} of {} {}", name_of(activation), name_of(dtype), shape.to_string()));
        const Example example(stream, activation, dtype, shape);
        const Padded y(stream, Tensor::zeros(stream, dtype, shape)), d_a(stream, Tensor::zeros(stream, dtype, shape)),
            d_b(stream, Tensor::zeros(stream, dtype, shape));
        gated_activation_forward(stream, {.a = example.a, .b = example.b, .activation = activation, .y = y});
        gated_activation_backward(
            stream,
            {.a = example.a, .b = example.b, .activation = activation, .d_y = example.d_y, .d_a = d_a, .d_b = d_b});
        EXPECT_LE(relative_error(values_of(y), example.y), limit(dtype));
        EXPECT_LE(relative_error(values_of(d_a), example.d_a), limit(dtype));
        EXPECT_LE(relative_error(values_of(d_b), example.d_b), limit(dtype));
        EXPECT_TRUE(y.padding_untouched() && d_a.padding_untouched() && d_b.padding_untouched());
      }
}

TEST(GatedActivation, GradientsEqualFiniteDifferences) {
  const Stream stream;
  for (const Activation activation : activations) {
    const Shape shape{5, 7};
    const Tensor a = random_tensor(stream, DType::f64, shape, 1, -4, 4),
                 b = random_tensor(stream, DType::f64, shape, 2);
    const Tensor d_y = random_tensor(stream, DType::f64, shape, 3), y(stream, DType::f64, shape),
                 d_a(stream, DType::f64, shape), d_b(stream, DType::f64, shape);
    const auto loss = [&] {
      gated_activation_forward(stream, {.a = a, .b = b, .activation = activation, .y = y});
      return dot(y, d_y);
    };
    gated_activation_backward(stream, {.a = a, .b = b, .activation = activation, .d_y = d_y, .d_a = d_a, .d_b = d_b});
    EXPECT_LE(relative_error(values_of(d_a), finite_differences(a, loss)), 1e-9) << name_of(activation);
    EXPECT_LE(relative_error(values_of(d_b), finite_differences(b, loss)), 1e-9) << name_of(activation);
  }
}

TEST(GatedActivation, BackwardGivesTheForwardResultAgain) {
  const Stream stream;
  for (const DType dtype : {DType::f64, DType::f32, DType::bf16})
    for (const Activation activation : activations) {
      const Example example(stream, activation, dtype, {20, 9});
      const Tensor y(stream, dtype, {20, 9}), d_a(stream, dtype, {20, 9}), d_b(stream, dtype, {20, 9}),
          d_a_alone(stream, dtype, {20, 9}), d_b_alone(stream, dtype, {20, 9});
      gated_activation_forward(stream, {.a = example.a, .b = example.b, .activation = activation, .y = y});
      GatedActivationBackward backward{.a = example.a,
                                       .b = example.b,
                                       .activation = activation,
                                       .d_y = example.d_y,
                                       .d_a = d_a_alone,
                                       .d_b = d_b_alone};
      gated_activation_backward(stream, backward);
      backward.d_a = d_a;
      backward.d_b = d_b;
      backward.y = example.d_y;  // in place of the gradient
      gated_activation_backward(stream, backward);
      EXPECT_EQ(values_of(example.d_y), values_of(y)) << name_of(activation);
      EXPECT_EQ(values_of(d_a), values_of(d_a_alone)) << name_of(activation);
      EXPECT_EQ(values_of(d_b), values_of(d_b_alone)) << name_of(activation);
    }
}

TEST(GatedActivation, GradientsMayReplaceTheirInputs) {
  const Stream stream;
  for (const Activation activation : activations) {
    const Example example(stream, activation, DType::f64, {20, 9});
    gated_activation_backward(stream, {.a = example.a,
                                       .b = example.b,
                                       .activation = activation,
                                       .d_y = example.d_y,
                                       .d_a = example.a,
                                       .d_b = example.b});
    EXPECT_LE(relative_error(values_of(example.a), example.d_a), 1e-14) << name_of(activation);
    EXPECT_LE(relative_error(values_of(example.b), example.d_b), 1e-14) << name_of(activation);
  }
}

TEST(GatedActivation, GeluUsesTheErrorFunctionAndNotTheTanhApproximation) {
  const Stream stream;
  const Tensor a = tensor_of(stream, DType::f64, {1, 2}, std::vector<double>{1, -2}),
               one = tensor_of(stream, DType::f64, {1, 2}, std::vector<double>{1, 1});
  const Tensor y(stream, DType::f64, {1, 2});
  gated_activation_forward(stream, {.a = a, .b = one, .activation = Activation::gelu, .y = y});
  // 1·Φ(1) and -2·Φ(-2); the tanh form gives 0.841192 and -0.045402.
  EXPECT_LE(relative_error(values_of(y), std::vector<double>{0.8413447460685429, -0.04550026389635842}), 1e-14);
}

TEST(Multiply, WritesOrAddsTheProductInEveryType) {
  const Stream stream;
  for (const DType dtype : dtypes)
    for (const bool accumulate : {false, true}) {
      const Shape shape{33, 21};
      const Padded a(stream, random_tensor(stream, dtype, shape, 1)), b(stream, random_tensor(stream, dtype, shape, 2)),
          y(stream, random_tensor(stream, dtype, shape, 3));
      std::vector<double> want = values_of(y);
      const std::vector<double> as = values_of(a), bs = values_of(b);
      for (std::size_t i = 0; i < want.size(); ++i) want[i] = (accumulate ? want[i] : 0) + as[i] * bs[i];
      multiply(stream, {.a = a, .b = b, .accumulate = accumulate, .y = y});
      EXPECT_LE(relative_error(values_of(y), want), limit(dtype));
      EXPECT_TRUE(y.padding_untouched());
    }
}

TEST(GatedActivation, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const Shape shape{50, 1111};
  for (const DType dtype : dtypes) {
    const Tensor a = random_tensor(stream, dtype, shape, 1, -4, 4), b = random_tensor(stream, dtype, shape, 2),
                 one(stream, dtype, shape), three(stream, dtype, shape);
    with_threads(1,
                 [&] { gated_activation_forward(stream, {.a = a, .b = b, .activation = Activation::gelu, .y = one}); });
    with_threads(
        3, [&] { gated_activation_forward(stream, {.a = a, .b = b, .activation = Activation::gelu, .y = three}); });
    EXPECT_TRUE(same_bits(one, three)) << name_of(dtype);
  }
}

TEST(GatedActivation, RefusesShapesThatDoNotFit) {
  const Stream stream;
  const Tensor a(stream, DType::f32, {4, 3}), b(stream, DType::f32, {4, 2}), wide(stream, DType::f64, {4, 3});
  EXPECT_THROW(gated_activation_forward(stream, {.a = a, .b = b, .y = a}), Error);
  EXPECT_THROW(gated_activation_forward(stream, {.a = a, .b = wide, .y = a}), Error);
  EXPECT_THROW(multiply(stream, {.a = a, .b = a, .y = b}), Error);
}

}  // namespace
}  // namespace causeway

#include "kernels/norm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/activation.hpp"
#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

constexpr double eps = 1e-5;

struct Tensors {
  Tensor x, residual, weight, y, rstd, d_y, d_residual, d_weight;

  Tensors(const Stream& stream, DType dtype, std::int64_t tokens, std::int64_t channels)
      : x(random_tensor(stream, dtype, {tokens, channels}, 1)),
        residual(random_tensor(stream, accumulator_of(dtype), {tokens, channels}, 2)),
        weight(random_tensor(stream, accumulator_of(dtype), {channels}, 3, 0.5, 1.5)),
        y(stream, dtype, {tokens, channels}),
        rstd(stream, accumulator_of(dtype), {tokens}),
        d_y(random_tensor(stream, dtype, {tokens, channels}, 4)),
        d_residual(random_tensor(stream, accumulator_of(dtype), {tokens, channels}, 5)),
        d_weight(random_tensor(stream, accumulator_of(dtype), {channels}, 6)) {}

  void forward(const Stream& stream, NormForm form = NormForm::inside) const {
    rms_norm_forward(stream,
                     {.x = x, .residual = residual, .weight = weight, .eps = eps, .form = form, .y = y, .rstd = rstd});
  }
  void backward(const Stream& stream, double norm_eps = eps, NormForm form = NormForm::inside) const {
    rms_norm_backward(stream, {.residual = residual,
                               .weight = weight,
                               .rstd = rstd,
                               .eps = norm_eps,
                               .form = form,
                               .d_y = d_y,
                               .d_residual = d_residual,
                               .d_weight = d_weight});
  }
};

class RmsNormOfEveryType : public testing::TestWithParam<DType> {};

TEST_P(RmsNormOfEveryType, ForwardEqualsTheFormulaInFloat64) {
  const Stream stream;
  for (const NormForm form : {NormForm::inside, NormForm::outside})
    for (const auto& [tokens, channels] : {std::pair{1, 1}, {3, 7}, {50, 64}, {129, 1000}, {0, 5}}) {
      const Tensors t(stream, GetParam(), tokens, channels);
      auto x = values_of(t.x), residual = values_of(t.residual);
      const auto weight = values_of(t.weight);
      std::vector<double> y, rstd;
      for (int i = 0; i < tokens; ++i) {
        double squares = 0;
        for (int d = 0; d < channels; ++d) {
          double& r = residual[static_cast<std::size_t>(i * channels + d)];
          r += x[static_cast<std::size_t>(i * channels + d)];
          squares += r * r;
        }
        rstd.push_back(form == NormForm::inside ? 1 / std::sqrt(squares / channels + eps)
                                                : 1 / (std::sqrt(squares / channels) + eps));
        for (int d = 0; d < channels; ++d)
          y.push_back(weight[static_cast<std::size_t>(d)] * residual[static_cast<std::size_t>(i * channels + d)] *
                      rstd.back());
      }
      t.forward(stream, form);
      const double wide = 8 * rounding_of(accumulator_of(GetParam()));
      EXPECT_LT(relative_error(values_of(t.residual), residual), wide);
      EXPECT_LT(relative_error(values_of(t.rstd), rstd), wide);
      EXPECT_LT(relative_error(values_of(t.y), y), 8 * rounding_of(GetParam()));
    }
}

TEST_P(RmsNormOfEveryType, WithoutXDoesNotChangeTheResidual) {
  const Stream stream;
  const Tensors t(stream, GetParam(), 9, 33);
  const auto before = values_of(t.residual);
  rms_norm_forward(stream, {.residual = t.residual, .weight = t.weight, .y = t.y, .rstd = t.rstd});
  EXPECT_EQ(values_of(t.residual), before);
}

TEST_P(RmsNormOfEveryType, ASumOfItsOwnLeavesTheResidualAsItWas) {
  const Stream stream;
  const Tensors in_place(stream, GetParam(), 9, 33), t(stream, GetParam(), 9, 33);
  const auto before = values_of(t.residual);
  const Tensor sum(stream, accumulator_of(GetParam()), {9, 33});
  in_place.forward(stream);
  rms_norm_forward(
      stream, {.x = t.x, .residual = t.residual, .sum = sum, .weight = t.weight, .eps = eps, .y = t.y, .rstd = t.rstd});
  EXPECT_EQ(values_of(t.residual), before);
  EXPECT_TRUE(same_bits(sum, in_place.residual) && same_bits(t.y, in_place.y) && same_bits(t.rstd, in_place.rstd));
}

TEST_P(RmsNormOfEveryType, BackwardWithBetaZeroDoesNotReadTheOldGradient) {
  const Stream stream;
  const Tensors of_zeros(stream, GetParam(), 9, 33), t(stream, GetParam(), 9, 33);
  const Tensor d_narrow(stream, GetParam(), {9, 33}), rounded(stream, GetParam(), {9, 33});
  for (const Tensors* each : {&of_zeros, &t}) each->forward(stream);
  assign(of_zeros.d_residual, std::vector<double>(9 * 33, 0));
  assign(t.d_residual, std::vector<double>(9 * 33, std::numeric_limits<double>::quiet_NaN()));
  of_zeros.backward(stream);
  rms_norm_backward(stream, {.residual = t.residual,
                             .weight = t.weight,
                             .rstd = t.rstd,
                             .eps = eps,
                             .d_y = t.d_y,
                             .beta = 0,
                             .d_residual = t.d_residual,
                             .d_narrow = d_narrow,
                             .d_weight = t.d_weight});
  EXPECT_EQ(values_of(t.d_residual), values_of(of_zeros.d_residual));
  scale(stream, {.x = t.d_residual, .y = rounded});
  EXPECT_TRUE(same_bits(d_narrow, rounded));
}

TEST_P(RmsNormOfEveryType, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const auto run = [&](int threads) {
    Tensors t(stream, GetParam(), 1000, 77);
    with_threads(threads, [&] {
      t.forward(stream);
      t.backward(stream);
    });
    return t;
  };
  const Tensors one = run(1);
  for (const int threads : {2, 3, 7}) {
    const Tensors several = run(threads);
    EXPECT_TRUE(same_bits(one.y, several.y) && same_bits(one.d_residual, several.d_residual) &&
                same_bits(one.d_weight, several.d_weight))
        << threads;
  }
}

TEST_P(RmsNormOfEveryType, AcceptsColumnsOfWiderMatrices) {
  const Stream stream;
  const Tensors t(stream, GetParam(), 12, 19), dense(stream, GetParam(), 12, 19);
  const Padded x(stream, t.x), residual(stream, t.residual), y(stream, t.y), d_y(stream, t.d_y),
      d_residual(stream, t.d_residual);
  rms_norm_forward(stream, {.x = x, .residual = residual, .weight = t.weight, .eps = eps, .y = y, .rstd = t.rstd});
  rms_norm_backward(stream, {.residual = residual,
                             .weight = t.weight,
                             .rstd = t.rstd,
                             .d_y = d_y,
                             .d_residual = d_residual,
                             .d_weight = t.d_weight});
  dense.forward(stream);
  dense.backward(stream);
  EXPECT_TRUE(same_bits(y, dense.y) && same_bits(d_residual, dense.d_residual) &&
              same_bits(t.d_weight, dense.d_weight));
  EXPECT_TRUE(y.padding_untouched() && residual.padding_untouched() && d_residual.padding_untouched());
}

TEST_P(RmsNormOfEveryType, KeepsANanInItsToken) {
  const Stream stream;
  const Tensors t(stream, GetParam(), 100, 40);
  assign(t.x.view().slice_rows(50, 1), std::vector<double>(40, std::numeric_limits<double>::quiet_NaN()));
  t.forward(stream);
  t.backward(stream);
  for (std::int64_t row = 0; row < 100; ++row)
    for (const TensorView& each : {t.y.view(), t.d_residual.view()})
      for (const double value : values_of(each.slice_rows(row, 1))) EXPECT_EQ(std::isnan(value), row == 50);
}

INSTANTIATE_TEST_SUITE_P(Types, RmsNormOfEveryType, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

/// eps is small compared with the mean square of the rows, or of its size.
struct NormCase {
  NormForm form;
  double eps;
};
class RmsNorm : public testing::TestWithParam<NormCase> {};
INSTANTIATE_TEST_SUITE_P(Forms, RmsNorm,
                         testing::Values(NormCase{NormForm::inside, eps}, NormCase{NormForm::outside, eps},
                                         NormCase{NormForm::inside, 0.5}, NormCase{NormForm::outside, 0.5}),
                         [](const auto& of) {
                           return fmt::format("{}_{}", of.param.form == NormForm::inside ? "inside" : "outside",
                                              of.param.eps < 0.1 ? "small" : "large");
                         });

TEST_P(RmsNorm, BackwardAddsGradientsThatEqualFiniteDifferences) {
  const Stream stream;
  const Tensors t(stream, DType::f64, 7, 11);
  const auto [form, norm_eps] = GetParam();
  const auto loss = [&, form = form, norm_eps = norm_eps] {
    rms_norm_forward(
        stream, {.residual = t.residual, .weight = t.weight, .eps = norm_eps, .form = form, .y = t.y, .rstd = t.rstd});
    return dot(t.y, t.d_y);
  };
  auto d_residual = values_of(t.d_residual), d_weight = values_of(t.d_weight);
  const auto more_residual = finite_differences(t.residual, loss), more_weight = finite_differences(t.weight, loss);
  for (std::size_t i = 0; i < d_residual.size(); ++i) d_residual[i] += more_residual[i];
  for (std::size_t i = 0; i < d_weight.size(); ++i) d_weight[i] += more_weight[i];
  loss();
  t.backward(stream, norm_eps, form);
  EXPECT_LT(relative_error(values_of(t.d_residual), d_residual), 1e-9);
  EXPECT_LT(relative_error(values_of(t.d_weight), d_weight), 1e-9);
}

TEST(RmsNormOutside, RowsThatAreZeroOrTinyHaveTheGradientsOfTheirLimit) {
  // y = weight · x/eps near x = 0, whose gradient is d_y · weight/eps.
  const Stream stream;
  for (const DType dtype : {DType::f64, DType::f32})
    for (const double size : {0.0, 1e-30, 1e-24}) {
      const Tensors t(stream, dtype, 3, 5);
      fill(stream, {.value = 0, .y = t.d_residual});
      fill(stream, {.value = size, .y = t.residual});
      rms_norm_forward(stream, {.residual = t.residual,
                                .weight = t.weight,
                                .eps = eps,
                                .form = NormForm::outside,
                                .y = t.y,
                                .rstd = t.rstd});
      t.backward(stream, eps, NormForm::outside);
      auto expected = values_of(t.d_y);
      const auto weight = values_of(t.weight);
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] *= weight[i % 5] / eps;
      EXPECT_LT(relative_error(values_of(t.d_residual), expected), 8 * rounding_of(dtype)) << size;
    }
}

TEST(RmsNormOfLowPrecision, BackwardEqualsFloat64s) {
  const Stream stream;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Tensors narrow(stream, dtype, 300, 65), wide(stream, DType::f64, 300, 65);
    wide.d_y = converted(stream, narrow.d_y, DType::f64);
    rms_norm_forward(stream,
                     {.residual = narrow.residual, .weight = narrow.weight, .y = narrow.y, .rstd = narrow.rstd});
    rms_norm_forward(stream, {.residual = wide.residual, .weight = wide.weight, .y = wide.y, .rstd = wide.rstd});
    narrow.backward(stream);
    wide.backward(stream);
    EXPECT_LT(relative_error(narrow.d_residual, wide.d_residual), 1e-6) << name_of(dtype);
    EXPECT_LT(relative_error(narrow.d_weight, wide.d_weight), 1e-6) << name_of(dtype);
  }
}

}  // namespace
}  // namespace causeway::test

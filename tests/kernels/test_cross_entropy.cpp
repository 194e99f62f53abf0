#include "kernels/cross_entropy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();

struct Result {
  std::vector<double> loss, d_logits;
};

/// The definition, in float64. Tokens with a negative label have no loss and no gradient. Without weights: 1.
Result reference(std::span<const double> logits, std::span<const double> labels, std::span<const double> weights = {},
                 double scale = 1) {
  Result result;
  const std::size_t vocabulary = logits.size() / labels.size();
  for (std::size_t t = 0; t < labels.size(); ++t) {
    const auto row = logits.subspan(t * vocabulary, vocabulary);
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const double logit : row) sum += std::exp(logit - largest);
    const bool labelled = labels[t] >= 0;
    const double factor = scale * (weights.empty() ? 1 : weights[t]);
    result.loss.push_back(labelled ? factor * (std::log(sum) + largest - row[static_cast<std::size_t>(labels[t])]) : 0);
    for (std::size_t v = 0; v < vocabulary; ++v)
      result.d_logits.push_back(
          labelled ? factor * (std::exp(row[v] - largest) / sum - (static_cast<double>(v) == labels[t] ? 1 : 0)) : 0);
  }
  return result;
}

class CrossEntropyOfEveryType : public testing::TestWithParam<DType> {};

TEST_P(CrossEntropyOfEveryType, EqualsTheDefinitionInFloat64) {
  const DType dtype = GetParam();
  const Stream stream;
  for (const auto& [tokens, vocabulary, size] :
       {std::tuple{1, 1, 1.0}, {5, 3, 4.0}, {64, 512, 30.0}, {33, 1000, 1e4}, {300, 257, 2.0}}) {
    const Tensor logits = random_tensor(stream, dtype, {tokens, vocabulary}, 1, -size, size),
                 labels = random_tensor(stream, DType::i32, {tokens}, 2, -1, vocabulary);
    const Tensor loss(stream, accumulator_of(dtype), {tokens}), d_logits(stream, dtype, {tokens, vocabulary});
    const Result expected = reference(values_of(logits), values_of(labels));
    cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss, .d_logits = d_logits});
    EXPECT_LT(relative_error(values_of(loss), expected.loss), 1e3 * rounding_of(accumulator_of(dtype))) << vocabulary;
    EXPECT_LT(relative_error(values_of(d_logits), expected.d_logits),
              4 * rounding_of(dtype) + 1e3 * rounding_of(accumulator_of(dtype)))
        << vocabulary;
  }
}

TEST_P(CrossEntropyOfEveryType, MultipliesLossAndGradientByTheWeight) {
  const DType dtype = GetParam();
  const Stream stream;
  for (const auto& [tokens, vocabulary] : {std::pair{1, 1}, {5, 3}, {64, 512}, {33, 1000}}) {
    const Tensor logits = random_tensor(stream, dtype, {tokens, vocabulary}, 1, -4, 4),
                 labels = random_tensor(stream, DType::i32, {tokens}, 2, -1, vocabulary),
                 weights = random_tensor(stream, DType::f32, {tokens}, 3, 0, 1);
    const Tensor loss(stream, accumulator_of(dtype), {tokens}), d_logits(stream, dtype, {tokens, vocabulary});
    const Result expected = reference(values_of(logits), values_of(labels), values_of(weights), 1.7);
    cross_entropy(stream, {.logits = logits,
                           .labels = labels,
                           .loss = loss,
                           .d_logits = d_logits,
                           .weights = weights,
                           .weight_scale = 1.7});
    EXPECT_LT(relative_error(values_of(loss), expected.loss), 1e3 * rounding_of(accumulator_of(dtype))) << vocabulary;
    EXPECT_LT(relative_error(values_of(d_logits), expected.d_logits),
              4 * rounding_of(dtype) + 1e3 * rounding_of(accumulator_of(dtype)))
        << vocabulary;
  }
}

TEST_P(CrossEntropyOfEveryType, WeightsOf1GiveTheBitsOfNoneAndAWeightOf0IsNoLabel) {
  const Stream stream;
  const Shape shape{60, 70};
  Tensor logits = random_tensor(stream, GetParam(), shape, 1, -3, 3),
         labels = random_tensor(stream, DType::i32, {60}, 2, -1, 70);
  const auto run = [&](TensorView weights) {
    std::pair<Tensor, Tensor> result{Tensor(stream, accumulator_of(GetParam()), {60}),
                                     Tensor(stream, GetParam(), shape)};
    cross_entropy(
        stream,
        {.logits = logits, .labels = labels, .loss = result.first, .d_logits = result.second, .weights = weights});
    return result;
  };
  const Tensor ones = tensor_of(stream, DType::f32, {60}, std::vector<double>(60, 1));
  const auto without = run({}), with_ones = run(ones);
  EXPECT_TRUE(same_bits(without.first, with_ones.first) && same_bits(without.second, with_ones.second));

  std::vector<double> weights(60, 1), other_labels = values_of(labels);
  for (std::size_t t = 0; t < 60; t += 3) {
    weights[t] = 0;
    other_labels[t] = -1;
    assign(logits.view().slice_rows(static_cast<std::int64_t>(t), 1), std::vector<double>(70, t % 2 == 0 ? nan : inf));
  }
  const auto weight_0 = run(tensor_of(stream, DType::f32, {60}, weights));
  labels = tensor_of(stream, DType::i32, {60}, other_labels);
  const auto no_label = run({});
  EXPECT_TRUE(same_bits(weight_0.first, no_label.first) && same_bits(weight_0.second, no_label.second));
}

TEST_P(CrossEntropyOfEveryType, GradientMayReplaceTheLogitsAndRowsMayBeStrided) {
  const Stream stream;
  const Tensor logits = random_tensor(stream, GetParam(), {40, 70}, 1, -3, 3),
               labels = random_tensor(stream, DType::i32, {40}, 2, -1, 70);
  const Tensor loss(stream, accumulator_of(GetParam()), {40}), again(stream, accumulator_of(GetParam()), {40}),
      d_logits(stream, GetParam(), {40, 70});
  const Padded in_place(stream, logits);
  cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss, .d_logits = d_logits});
  cross_entropy(stream, {.logits = in_place, .labels = labels, .loss = again, .d_logits = in_place});
  EXPECT_TRUE(same_bits(loss, again) && same_bits(in_place, d_logits) && in_place.padding_untouched());
  cross_entropy(stream, {.logits = logits, .labels = labels, .loss = again});
  EXPECT_TRUE(same_bits(loss, again));
}

TEST(CrossEntropy, GradientOfF32LogitsMayBeBf16) {
  const Stream stream;
  for (const int vocabulary : {1, 3, 64, 70, 20000}) {
    const Shape shape{7, vocabulary};
    const Tensor logits = random_tensor(stream, DType::f32, shape, 1, -3, 3),
                 labels = random_tensor(stream, DType::i32, {7}, 2, -1, vocabulary);
    const Tensor loss(stream, DType::f32, {7}), again(stream, DType::f32, {7}), wide(stream, DType::f32, shape),
        zero = Tensor::zeros(stream, DType::bf16, shape);
    cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss, .d_logits = wide, .weight_scale = 0.7});
    const Padded narrow(stream, zero);
    cross_entropy(stream, {.logits = logits, .labels = labels, .loss = again, .d_logits = narrow, .weight_scale = 0.7});
    EXPECT_LE(relative_error(narrow, wide), 1.01 * rounding_of(DType::bf16)) << vocabulary;
    EXPECT_LE(relative_error(again, loss), 4 * rounding_of(DType::f32)) << vocabulary;
    EXPECT_TRUE(narrow.padding_untouched());
  }
  const Tensor logits(stream, DType::bf16, {2, 3}), loss(stream, DType::f32, {2}), wide(stream, DType::f32, {2, 3}),
      labels = tensor_of(stream, DType::i32, {2}, std::vector<double>{0, 1});
  EXPECT_THROW(cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss, .d_logits = wide}), Error);
}

TEST_P(CrossEntropyOfEveryType, StaysFiniteForLogitsThatOverflowExp) {
  const Stream stream;
  const Tensor logits = tensor_of(stream, GetParam(), {2, 3}, std::vector<double>{1e4, 0, -1e4, -inf, 2, 2}),
               labels = tensor_of(stream, DType::i32, {2}, std::vector<double>{0, 1});
  const Tensor loss(stream, accumulator_of(GetParam()), {2}), d_logits(stream, GetParam(), {2, 3});
  cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss, .d_logits = d_logits});
  EXPECT_LT(relative_error(values_of(loss), std::vector<double>{0, std::log(2)}), 1e-6);
  EXPECT_EQ(values_of(d_logits), (std::vector<double>{0, 0, 0, 0, -0.5, 0.5}));
}

TEST_P(CrossEntropyOfEveryType, IgnoresUnlabelledTokensAndKeepsANanInItsToken) {
  const Stream stream;
  for (const double poison : {nan, inf, -inf}) {
    const Tensor logits = random_tensor(stream, GetParam(), {4, 50}, 1),
                 labels = tensor_of(stream, DType::i32, {4}, std::vector<double>{3, -1, 49, 7});
    for (const std::int64_t row : {1, 2}) assign(logits.view().slice_rows(row, 1), std::vector<double>(50, poison));
    const Tensor loss(stream, accumulator_of(GetParam()), {4});
    cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss, .d_logits = logits});
    const auto losses = values_of(loss);
    EXPECT_TRUE(std::isfinite(losses[0]) && losses[1] == 0 && !std::isfinite(losses[2]) && std::isfinite(losses[3]));
    EXPECT_EQ(values_of(logits.view().slice_rows(1, 1)), std::vector<double>(50, 0));
    for (const std::int64_t row : {0, 3})
      for (const double value : values_of(logits.view().slice_rows(row, 1))) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST_P(CrossEntropyOfEveryType, OneNanLogitMakesTheLossNan) {
  const Stream stream;
  for (const std::int64_t at : {0, 17, 99}) {
    const Tensor logits = random_tensor(stream, GetParam(), {1, 100}, 1),
                 labels = tensor_of(stream, DType::i32, {1}, std::vector<double>{5});
    assign(logits.view().slice_columns(at, 1), std::vector<double>{nan});
    const Tensor loss(stream, accumulator_of(GetParam()), {1});
    cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss});
    EXPECT_TRUE(std::isnan(values_of(loss)[0])) << at;
  }
}

TEST_P(CrossEntropyOfEveryType, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const Tensor logits = random_tensor(stream, GetParam(), {301, 130}, 1, -5, 5),
               labels = random_tensor(stream, DType::i32, {301}, 2, -1, 130);
  const auto run = [&](int threads) {
    std::pair<Tensor, Tensor> result{Tensor(stream, accumulator_of(GetParam()), {301}),
                                     Tensor(stream, GetParam(), {301, 130})};
    with_threads(threads, [&] {
      cross_entropy(stream, {.logits = logits, .labels = labels, .loss = result.first, .d_logits = result.second});
    });
    return result;
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 5}) {
    const auto several = run(threads);
    EXPECT_TRUE(same_bits(one.first, several.first) && same_bits(one.second, several.second)) << threads;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CrossEntropyOfEveryType, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

TEST(CrossEntropy, GradientEqualsFiniteDifferencesOfTheLoss) {
  const Stream stream;
  const Tensor logits = random_tensor(stream, DType::f64, {6, 9}, 1, -2, 2),
               labels = random_tensor(stream, DType::i32, {6}, 2, -1, 9),
               weights = random_tensor(stream, DType::f32, {6}, 3, 0, 1);
  const Tensor loss(stream, DType::f64, {6}), d_logits(stream, DType::f64, {6, 9});
  for (const TensorView used : {TensorView{}, weights.view()}) {
    const double scale = used.present() ? 1.3 : 1;
    cross_entropy(stream, {.logits = logits,
                           .labels = labels,
                           .loss = loss,
                           .d_logits = d_logits,
                           .weights = used,
                           .weight_scale = scale});
    const auto expected = finite_differences(logits, [&] {
      cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss, .weights = used, .weight_scale = scale});
      double sum = 0;
      for (const double value : values_of(loss)) sum += value;
      return sum;
    });
    EXPECT_LT(relative_error(values_of(d_logits), expected), 1e-9);
  }
}

TEST(CrossEntropy, RefusesLabelsPastTheVocabulary) {
  const Stream stream;
  const Tensor logits(stream, DType::f32, {2, 4}),
      labels = tensor_of(stream, DType::i32, {2}, std::vector<double>{3, 4}), loss(stream, DType::f32, {2});
  EXPECT_THROW(cross_entropy(stream, {.logits = logits, .labels = labels, .loss = loss}), Error);
}

}  // namespace
}  // namespace causeway::test

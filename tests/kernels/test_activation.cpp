#include "kernels/activation.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

const Shape shapes[] = {{1}, {7}, {0}, {3, 5}, {129, 64}, {5, 4, 3}, {3, 9000}, {20000}};

class ElementsOfEveryType : public testing::TestWithParam<DType> {};

TEST_P(ElementsOfEveryType, ScaleConvertsToEveryTypeAndAccumulates) {
  const Stream stream;
  for (const DType to : floating_types)
    for (const Shape& shape : shapes)
      for (const bool accumulate : {false, true}) {
        const Tensor x = random_tensor(stream, GetParam(), shape, 1), y = random_tensor(stream, to, shape, 2);
        auto expected = values_of(y);
        const auto added = values_of(x);
        for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = (accumulate ? expected[i] : 0) - 1.5 * added[i];
        const Padded wide_x(stream, x.view().reshaped({shape[0], shape.row_size()}), 1, 6),
            wide_y(stream, y.view().reshaped({shape[0], shape.row_size()}));
        scale(stream, {.x = x, .alpha = -1.5, .accumulate = accumulate, .y = y});
        scale(stream, {.x = wide_x, .alpha = -1.5, .accumulate = accumulate, .y = wide_y});
        EXPECT_LT(relative_error(values_of(y), expected), 4 * std::max(rounding_of(to), 1e-16))
            << name_of(to) << shape.to_string();
        EXPECT_EQ(values_of(wide_y), values_of(y)) << name_of(to) << shape.to_string();
        EXPECT_TRUE(wide_y.padding_untouched());
      }
}

TEST_P(ElementsOfEveryType, ScaleByOneIsAConversionToNearestEven) {
  const Stream stream;
  const Tensor x = random_tensor(stream, GetParam(), {5000}, 1, -100, 100), y(stream, DType::bf16, {5000});
  scale(stream, {.x = x, .y = y});
  EXPECT_TRUE(same_bits(y, converted(stream, x, DType::bf16)));
}

TEST_P(ElementsOfEveryType, FillWritesEveryElementAndNothingElse) {
  const Stream stream;
  for (const Shape& shape : shapes) {
    const Padded wide(stream, random_tensor(stream, GetParam(), {shape[0], shape.row_size()}, 1));
    fill(stream, {.value = -0.75, .y = wide});
    for (const double value : values_of(wide)) EXPECT_EQ(value, -0.75);
    EXPECT_TRUE(wide.padding_untouched());
  }
}

TEST_P(ElementsOfEveryType, SumOfSquaresAddsToTheSum) {
  const Stream stream;
  for (const Shape& shape : shapes) {
    const Tensor x = random_tensor(stream, GetParam(), shape, 1),
                 sum = tensor_of(stream, DType::f64, {1}, std::vector<double>{2.5});
    const Padded wide(stream, x.view().reshaped({shape[0], shape.row_size()}));
    const double expected = 2.5 + dot(x, x);
    sum_of_squares(stream, {.x = x, .sum = sum});
    EXPECT_NEAR(values_of(sum)[0], expected, 1e-13 * expected) << shape.to_string();
    sum_of_squares(stream, {.x = wide, .sum = sum});
    EXPECT_NEAR(values_of(sum)[0], 2 * expected - 2.5, 1e-13 * expected) << shape.to_string();
  }
}

TEST_P(ElementsOfEveryType, SumOfElementsAddsToTheSumInTheirOrder) {
  const Stream stream;
  for (const Shape& shape : shapes) {
    const Tensor x = random_tensor(stream, GetParam(), shape, 1),
                 sum = tensor_of(stream, DType::f64, {1}, std::vector<double>{2.5});
    double expected = 0;
    for (const double value : values_of(x)) expected += value;
    sum_of_elements(stream, {.x = x, .sum = sum});
    EXPECT_EQ(values_of(sum)[0], 2.5 + expected) << shape.to_string();
  }
}

TEST_P(ElementsOfEveryType, SumOfSquaresGivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const Tensor x = random_tensor(stream, GetParam(), {99, 1001}, 1);
  const auto run = [&](int threads) {
    Tensor sum = Tensor::zeros(stream, DType::f64, {1});
    with_threads(threads, [&] { sum_of_squares(stream, {.x = x, .sum = sum}); });
    return sum;
  };
  const Tensor one = run(1);
  for (const int threads : {2, 3, 5}) EXPECT_TRUE(same_bits(one, run(threads)));
}

TEST_P(ElementsOfEveryType, ElementwiseKernelsGiveTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const Tensor x = random_tensor(stream, GetParam(), {30000}, 1, -8, 8);
  const auto run = [&](int threads) {
    std::pair<Tensor, Tensor> result{Tensor(stream, GetParam(), {30000}), Tensor(stream, GetParam(), {30000})};
    with_threads(threads, [&] {
      negative_exponential(stream, {.x = x, .y = result.first});
      scale(stream, {.x = result.first, .alpha = 0.3, .y = result.second});
    });
    return result;
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 5}) {
    const auto several = run(threads);
    EXPECT_TRUE(same_bits(one.first, several.first) && same_bits(one.second, several.second));
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ElementsOfEveryType, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

TEST(NegativeExponential, EqualsTheFormulaAndItsGradientEqualsFiniteDifferences) {
  const Stream stream;
  const Tensor x = random_tensor(stream, DType::f64, {6, 7}, 1, -3, 3), y(stream, DType::f64, {6, 7}),
               d_y = random_tensor(stream, DType::f64, {6, 7}, 2);
  const Tensor d_x = random_tensor(stream, DType::f64, {6, 7}, 3);
  negative_exponential(stream, {.x = x, .y = y});
  std::vector<double> expected;
  for (const double value : values_of(x)) expected.push_back(-std::exp(value));
  EXPECT_LT(relative_error(values_of(y), expected), 1e-15);

  auto gradient = finite_differences(x, [&] {
    const Tensor moved(stream, DType::f64, {6, 7});
    negative_exponential(stream, {.x = x, .y = moved});
    return dot(moved, d_y);
  });
  const auto before = values_of(d_x);
  for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += before[i];
  negative_exponential_backward(stream, {.y = y, .d_y = d_y, .d_x = d_x});
  EXPECT_LT(relative_error(values_of(d_x), gradient), 1e-9);
}

TEST(Scale, RefusesShapesThatDiffer) {
  const Stream stream;
  const Tensor x(stream, DType::f32, {3, 4}), y(stream, DType::f32, {4, 3});
  EXPECT_THROW(scale(stream, {.x = x, .y = y}), Error);
}

}  // namespace
}  // namespace causeway::test

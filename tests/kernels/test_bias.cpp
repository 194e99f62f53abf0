#include "kernels/bias.hpp"

#include <gtest/gtest.h>

#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

class BiasOfEveryType : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, BiasOfEveryType, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

TEST_P(BiasOfEveryType, ForwardWritesTheBiasIntoEveryRow) {
  const Stream stream;
  for (const auto& [tokens, channels] : {std::pair{1, 1}, {0, 4}, {3, 7}, {300, 65}}) {
    const Tensor bias = random_tensor(stream, accumulator_of(GetParam()), {channels}, 1),
                 y = random_tensor(stream, GetParam(), {tokens, channels}, 2);
    const Padded wide(stream, y);
    bias_forward(stream, {.bias = bias, .y = y});
    bias_forward(stream, {.bias = bias, .y = wide});
    const auto rounded = values_of(converted(stream, bias, GetParam()));
    for (std::int64_t t = 0; t < tokens; ++t) EXPECT_EQ(values_of(y.view().slice_rows(t, 1)), rounded);
    EXPECT_TRUE(same_bits(wide, y) && wide.padding_untouched());
  }
}

TEST_P(BiasOfEveryType, BackwardAddsTheSumsOfTheColumns) {
  const Stream stream;
  for (const auto& [tokens, channels] : {std::pair{1, 1}, {0, 4}, {3, 7}, {5000, 65}}) {
    const Tensor d_y = random_tensor(stream, GetParam(), {tokens, channels}, 1),
                 d_bias = random_tensor(stream, accumulator_of(GetParam()), {channels}, 2),
                 again = converted(stream, d_bias, accumulator_of(GetParam()));
    auto expected = values_of(d_bias);
    const auto added = values_of(d_y);
    for (std::size_t i = 0; i < added.size(); ++i) expected[i % static_cast<std::size_t>(channels)] += added[i];
    bias_backward(stream, {.d_y = d_y, .d_bias = d_bias});
    bias_backward(stream, {.d_y = Padded(stream, d_y), .d_bias = again});
    EXPECT_LT(relative_error(values_of(d_bias), expected), 64 * rounding_of(accumulator_of(GetParam())));
    EXPECT_TRUE(same_bits(d_bias, again));
  }
}

TEST_P(BiasOfEveryType, BackwardGivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const Tensor d_y = random_tensor(stream, GetParam(), {3000, 33}, 1);
  const auto run = [&](int threads) {
    Tensor d_bias = Tensor::zeros(stream, accumulator_of(GetParam()), {33});
    with_threads(threads, [&] { bias_backward(stream, {.d_y = d_y, .d_bias = d_bias}); });
    return d_bias;
  };
  const Tensor one = run(1);
  for (const int threads : {2, 3, 7}) EXPECT_TRUE(same_bits(one, run(threads))) << threads;
}

TEST(Bias, RefusesShapesThatDoNotFit) {
  const Stream stream;
  const Tensor bias(stream, DType::f32, {4}), narrow(stream, DType::bf16, {4}), y(stream, DType::f32, {2, 5}),
      fits(stream, DType::bf16, {2, 4});
  EXPECT_THROW(bias_forward(stream, {.bias = bias, .y = y}), Error);
  EXPECT_THROW(bias_forward(stream, {.bias = narrow, .y = fits}), Error);
  EXPECT_THROW(bias_backward(stream, {.d_y = y, .d_bias = bias}), Error);
  EXPECT_NO_THROW(bias_forward(stream, {.bias = bias, .y = fits}));
}

}  // namespace
}  // namespace causeway::test

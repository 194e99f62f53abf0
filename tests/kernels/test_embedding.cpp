#include "kernels/embedding.hpp"

#include <gtest/gtest.h>

#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

constexpr std::int64_t tokens = 700, vocabulary = 13, channels = 150;

class EmbeddingOfEveryType : public testing::TestWithParam<DType> {};

TEST_P(EmbeddingOfEveryType, ForwardCopiesTheRowsOfTheIds) {
  const DType dtype = GetParam();
  const Stream stream;
  const Tensor ids = random_tensor(stream, DType::i32, {tokens}, 1, 0, vocabulary),
               weight = random_tensor(stream, dtype, {vocabulary, channels}, 2);
  for (const DType y_type : {dtype, accumulator_of(dtype)}) {
    const Tensor y(stream, y_type, {tokens, channels});
    const Padded wide_y(stream, y), wide_weight(stream, weight);
    embedding_forward(stream, {.ids = ids, .weight = weight, .y = y});
    embedding_forward(stream, {.ids = ids, .weight = wide_weight, .y = wide_y});
    for (std::int64_t t = 0; t < tokens; ++t)
      EXPECT_EQ(values_of(y.view().slice_rows(t, 1)),
                values_of(weight.view().slice_rows(ids.view().as<std::int32_t>()[static_cast<std::size_t>(t)], 1)));
    EXPECT_TRUE(same_bits(wide_y, y) && wide_y.padding_untouched());
  }
}

TEST_P(EmbeddingOfEveryType, BackwardIsTheAdjointOfForwardAndAdds) {
  const DType dtype = GetParam();
  const Stream stream;
  const Tensor ids = random_tensor(stream, DType::i32, {tokens}, 1, 0, vocabulary),
               d_y = random_tensor(stream, dtype, {tokens, channels}, 2);
  const Tensor d_weight = random_tensor(stream, accumulator_of(dtype), {vocabulary, channels}, 3);
  auto expected = values_of(d_weight);
  const auto added = values_of(d_y);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t d = 0; d < channels; ++d)
      expected[static_cast<std::size_t>(ids.view().as<std::int32_t>()[t]) * channels + d] += added[t * channels + d];
  const Padded wide(stream, d_weight);
  embedding_backward(stream, {.ids = ids, .d_y = d_y, .d_weight = d_weight});
  embedding_backward(stream, {.ids = ids, .d_y = Padded(stream, d_y), .d_weight = wide});
  EXPECT_LT(relative_error(values_of(d_weight), expected), 20 * rounding_of(accumulator_of(dtype)));
  EXPECT_TRUE(same_bits(wide, d_weight) && wide.padding_untouched());
}

TEST_P(EmbeddingOfEveryType, BackwardGivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const Tensor ids = random_tensor(stream, DType::i32, {tokens}, 1, 0, 4),
               d_y = random_tensor(stream, GetParam(), {tokens, channels}, 2);
  const auto run = [&](int threads) {
    Tensor d_weight = Tensor::zeros(stream, accumulator_of(GetParam()), {vocabulary, channels});
    with_threads(threads, [&] { embedding_backward(stream, {.ids = ids, .d_y = d_y, .d_weight = d_weight}); });
    return d_weight;
  };
  const Tensor one = run(1);
  for (const int threads : {2, 3, 4}) EXPECT_TRUE(same_bits(one, run(threads))) << threads;
}

INSTANTIATE_TEST_SUITE_P(Types, EmbeddingOfEveryType, testing::ValuesIn(floating_types),
                         dtype_name<testing::TestParamInfo<DType>>);

TEST(Embedding, RefusesIdsOutsideTheVocabulary) {
  const Stream stream;
  const Tensor weight = Tensor::zeros(stream, DType::f32, {vocabulary, channels}), y(stream, DType::f32, {3, channels});
  for (const double id : {-1.0, 13.0, 2147483647.0}) {
    const Tensor ids = tensor_of(stream, DType::i32, {3}, std::vector<double>{0, 12, id});
    try {
      embedding_forward(stream, {.ids = ids, .weight = weight, .y = y});
      ADD_FAILURE() << "id " << id << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_NE(std::string(error.what()).find("token 2 is id "), std::string::npos) << error.what();
    }
    EXPECT_THROW(embedding_backward(stream, {.ids = ids, .d_y = y, .d_weight = weight}), Error);
  }
}

TEST(Embedding, AcceptsARunWithoutTokens) {
  const Stream stream;
  const Tensor ids(stream, DType::i32, {0}), weight = random_tensor(stream, DType::f32, {vocabulary, channels}, 1),
                                             y(stream, DType::f32, {0, channels});
  embedding_forward(stream, {.ids = ids, .weight = weight, .y = y});
  embedding_backward(stream, {.ids = ids, .d_y = y, .d_weight = weight});
  EXPECT_TRUE(same_bits(weight, random_tensor(stream, DType::f32, {vocabulary, channels}, 1)));
}

}  // namespace
}  // namespace causeway::test

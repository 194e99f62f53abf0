#include "src/convert/striped_hyena/filter_transforms.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"

namespace causeway {
namespace {

Elements floats(const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {.type = TensorType::f32, .bytes = {bytes.begin(), bytes.end()}};
}

TEST(FilterTransforms, AShortFilterIsReversedAndComesBack) {
  const Transform transform = stored_filter({.groups = 2, .taps = 3, .reversed = true});
  const Elements parameter = transform.to_parameter({floats({1, 2, 3, 4, 5, 6})});
  EXPECT_EQ(doubles_of(parameter), (std::vector<double>{3, 2, 1, 6, 5, 4}));
  EXPECT_EQ(doubles_of(transform.to_tensors(parameter, {6}).at(0)), (std::vector<double>{1, 2, 3, 4, 5, 6}));
}

TEST(FilterTransforms, GroupsThatTheFormatHasOnceAreRepeated) {
  const Transform transform = stored_filter({.groups = 2, .taps = 2, .repeated = 2});
  Elements parameter = transform.to_parameter({floats({1, 2, 3, 4})});
  EXPECT_EQ(doubles_of(parameter), (std::vector<double>{1, 2, 1, 2, 3, 4, 3, 4}));
  EXPECT_EQ(doubles_of(transform.to_tensors(parameter, {4}).at(0)), (std::vector<double>{1, 2, 3, 4}));
  parameter.bytes[0] ^= std::byte{1};
  EXPECT_THROW(transform.to_tensors(parameter, {4}), Error);
}

TEST(FilterTransforms, AFilterAndItsDecayAreMultipliedInTheirOwnType) {
  const Transform transform = product_of_leading_taps({.groups = 2, .taps = 2});
  const Elements product = transform.to_parameter({floats({0.1F, 0.2F, 9, 0.3F, 0.4F, 9}), floats({3, 5, 7, 11})});
  EXPECT_EQ(product.type, TensorType::f32);
  EXPECT_EQ(doubles_of(product), (std::vector<double>{0.1F * 3.0F, 0.2F * 5.0F, 0.3F * 7.0F, 0.4F * 11.0F}));
}

TEST(FilterTransforms, PolesComeBackBitForBit) {
  std::vector<float> poles = {-0.0F,
                              0.0F,
                              -1.0F,
                              -std::numeric_limits<float>::min(),
                              -std::numeric_limits<float>::denorm_min(),
                              -std::numeric_limits<float>::max(),
                              -std::nextafter(1.0F, 2.0F)};
  const RandomStream random(1, 2);
  for (std::uint64_t i = 0; i < 20'000; ++i)
    poles.push_back(static_cast<float>(-std::exp(-20 + 24 * random.uniform(i))));
  const Transform transform = log_of_rate();
  const Elements gamma = transform.to_parameter({floats(poles)});
  EXPECT_EQ(gamma.type, TensorType::f64);
  for (const double value : doubles_of(gamma)) ASSERT_TRUE(std::isfinite(value));
  const Elements back = converted(
      std::move(transform.to_tensors(gamma, {static_cast<std::int64_t>(poles.size())}).at(0)), TensorType::f32);
  EXPECT_EQ(std::memcmp(back.bytes.data(), poles.data(), back.bytes.size()), 0);
}

TEST(FilterTransforms, APoleThatGrowsIsRefused) {
  EXPECT_THROW(log_of_rate().to_parameter({floats({-1, 0.5F})}), Error);
}

TEST(FilterTransforms, AFactorThatIsOneChangesNoByte) {
  const Elements filter = floats({1, 2, 3});
  EXPECT_EQ(product_of(filter, floats({1, 1, 1})).type, TensorType::f32);
  EXPECT_EQ(doubles_of(product_of(filter, floats({1, 0.5F, 2}))), (std::vector<double>{1, 1, 6}));
  EXPECT_EQ(sum_of(filter, floats({0, 0, 0})).type, TensorType::f32);
  EXPECT_EQ(doubles_of(sum_of(filter, floats({-1, 0, 1}))), (std::vector<double>{0, 2, 4}));
}

TEST(FilterTransforms, FrequenciesAreThoseThatFloat32Gives) {
  const Elements frequencies = computed_frequencies(10000, 8);
  EXPECT_EQ(frequencies.type, TensorType::f32);
  EXPECT_EQ(doubles_of(frequencies), (std::vector<double>{1, 0.1F, 0.01F, 1.0F / static_cast<float>(1000)}));
}

}  // namespace
}  // namespace causeway

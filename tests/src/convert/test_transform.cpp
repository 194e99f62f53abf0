#include "src/convert/transform.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

template <class T>
Elements elements_of(TensorType type, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {type, {bytes.begin(), bytes.end()}};
}

template <class T>
std::vector<T> values_of(const Elements& elements) {
  std::vector<T> values(elements.bytes.size() / sizeof(T));
  std::memcpy(values.data(), elements.bytes.data(), elements.bytes.size());
  return values;
}

Elements numbers(std::int64_t count) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(i));
  return elements_of(TensorType::f32, values);
}

TEST(Transform, EveryOneHasAnInverse) {
  const std::pair<Transform, std::vector<std::int64_t>> table[] = {{stacked(), {24}},
                                                                   {stacked(), {6, 10, 8}},
                                                                   {outer_axes_swapped(4, 3), {24}},
                                                                   {outer_axes_swapped(2, 3), {12, 12}}};
  for (const auto& [transform, counts] : table) {
    std::vector<Elements> tensors = divided(numbers(24), counts);
    const Elements parameter = transform.to_parameter(tensors);
    EXPECT_EQ(parameter.count(), 24);
    const std::vector<Elements> back = transform.to_tensors(parameter, counts);
    ASSERT_EQ(back.size(), tensors.size());
    for (std::size_t t = 0; t < back.size(); ++t) EXPECT_EQ(back[t].bytes, tensors[t].bytes);
  }
}

TEST(Transform, InterleavedRowsAreTakenApart) {
  const Elements parameter = outer_axes_swapped(2, 3).to_parameter({numbers(12)});  // rows q k v q k v of two elements
  EXPECT_EQ(values_of<float>(parameter), (std::vector<float>{0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11}));
}

TEST(Transform, TensorsOfOtherTypesAreStackedInOneThatHoldsBoth) {
  const Elements half = converted(numbers(2), TensorType::f16), brain = converted(numbers(3), TensorType::bf16);
  const Elements both = stacked().to_parameter({half, brain});
  EXPECT_EQ(both.type, TensorType::f32);
  EXPECT_EQ(values_of<float>(both), (std::vector<float>{0, 1, 0, 1, 2}));
}

TEST(Transform, AConstantIsMadeAndChecked) {
  const Transform ones = constant(3, 1);
  EXPECT_EQ(values_of<float>(ones.to_parameter({})), (std::vector<float>{1, 1, 1}));
  EXPECT_TRUE(ones.to_tensors(elements_of(TensorType::f32, std::vector<float>{1, 1, 1}), {}).empty());
  EXPECT_THROW(ones.to_tensors(elements_of(TensorType::f32, std::vector<float>{1, 1, 2}), {}), Error);
}

}  // namespace
}  // namespace causeway

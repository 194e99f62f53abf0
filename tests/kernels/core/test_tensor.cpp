#include "kernels/core/tensor.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

Tensor counting(const Stream& stream, Shape shape) {
  std::vector<double> values(static_cast<std::size_t>(shape.size()));
  std::iota(values.begin(), values.end(), 0);
  return tensor_of(stream, DType::f32, shape, values);
}

TEST(Shape, KnowsItsSizes) {
  const Shape shape{3, 4, 5};
  EXPECT_EQ(shape.size(), 60);
  EXPECT_EQ(shape.row_size(), 20);
  EXPECT_EQ(shape.to_string(), "[3, 4, 5]");
  EXPECT_EQ(shape.with_rows(7), (Shape{7, 4, 5}));
  EXPECT_EQ(Shape({2, 0}).size(), 0);
  EXPECT_NE(Shape({2, 3}), Shape({3, 2}));
  EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
  EXPECT_THROW((Shape{-1}), Error);
}

TEST(TensorView, ADefaultConstructedViewIsAbsent) {
  const TensorView absent;
  EXPECT_FALSE(absent.present());
  EXPECT_EQ(absent.size(), 0);
  EXPECT_FALSE(Tensor().present());
  EXPECT_TRUE(Tensor(Stream(), DType::f32, {0, 3}).present());
}

TEST(TensorView, RowsAndColumnsOfAMatrix) {
  const Stream stream;
  const Tensor x = counting(stream, {4, 5});
  EXPECT_EQ(values_of(x.view().slice_rows(1, 2)), (std::vector<double>{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}));
  const TensorView columns = x.view().slice_columns(3, 2);
  EXPECT_EQ(values_of(columns), (std::vector<double>{3, 4, 8, 9, 13, 14, 18, 19}));
  EXPECT_EQ(values_of(columns.slice_rows(2, 1).slice_columns(1, 1)), std::vector<double>{14});
  EXPECT_FALSE(columns.dense());
  EXPECT_EQ(x.view().slice_rows(4, 0).size(), 0);
  EXPECT_EQ(x.view().slice_columns(5, 0).size(), 0);
}

TEST(TensorView, RefusesSlicesOutsideTheTensor) {
  const Stream stream;
  const Tensor x = counting(stream, {4, 5}), cube = counting(stream, {2, 3, 4});
  for (const auto& [begin, count] : {std::pair{-1, 1}, {0, 5}, {4, 1}, {2, -1}})
    EXPECT_THROW(x.view().slice_rows(begin, count), Error);
  for (const auto& [begin, count] : {std::pair{-1, 1}, {0, 6}, {5, 1}, {2, -1}})
    EXPECT_THROW(x.view().slice_columns(begin, count), Error);
  EXPECT_THROW(cube.view().slice_columns(0, 1), Error);
}

TEST(TensorView, OnlyADenseViewCanBeReshapedOrSpanned) {
  const Stream stream;
  const Tensor x = counting(stream, {4, 6});
  EXPECT_EQ(x.view().reshaped({2, 3, 4}).row_stride, 12);
  EXPECT_EQ(x.view().as<float>()[7], 7);
  EXPECT_EQ(x.view().as_bytes().size(), 96u);
  EXPECT_THROW(x.view().reshaped({5, 5}), Error);
  EXPECT_THROW(x.view().as<double>(), Error);
  const TensorView gaps = x.view().slice_columns(0, 3);
  EXPECT_THROW(gaps.reshaped({12}), Error);
  EXPECT_THROW(gaps.as<float>(), Error);
  EXPECT_THROW(gaps.as_bytes(), Error);
  EXPECT_EQ(gaps.slice_rows(1, 1).as<float>()[2], 8);
}

TEST(Tensor, ReleasesItsMemoryExactlyOnceAfterMoves) {
  const Stream stream;
  {
    Tensor x = counting(stream, {10, 10});
    const void* data = x.view().data;
    Tensor y = std::move(x);
    EXPECT_EQ(y.view().data, data);
    EXPECT_FALSE(x.present());  // NOLINT: a moved-from tensor is absent, by contract
    Tensor z(stream, DType::f64, {3});
    z = std::move(y);
    EXPECT_EQ(z.view().data, data);
  }
  EXPECT_EQ(stream.memory().live_bytes(), 0);
}

TEST(Tensor, OutlivesItsStream) {
  Tensor x;
  {
    const Stream stream;
    x = counting(stream, {100});
  }
  EXPECT_EQ(x.view().as<float>()[99], 99);
}

TEST(Tensor, ZerosAreZeroInReusedMemoryToo) {
  const Stream stream;
  { const Tensor used = counting(stream, {50}); }
  EXPECT_EQ(values_of(Tensor::zeros(stream, DType::f32, {50})), std::vector<double>(50, 0));
}

}  // namespace
}  // namespace causeway::test

#include "kernels/reorder.hpp"

#include <gtest/gtest.h>

#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

const RowRange ranges[] = {{.from = 2, .to = 0, .count = 3},
                           {.from = 0, .to = 9, .count = 1},
                           {.from = 4, .to = 1, .count = 4},
                           {.from = 7, .to = 7, .count = 0}};

class CopyRowsOfEveryType : public testing::TestWithParam<DType> {};

TEST_P(CopyRowsOfEveryType, CopiesOrAddsRangeByRange) {
  const DType dtype = GetParam();
  const bool floating = dtype == DType::f64 || dtype == DType::f32 || dtype == DType::bf16;
  const Stream stream;
  for (const Shape& shape : {Shape{10, 6}, Shape{10}, Shape{10, 3, 2}})
    for (const bool accumulate : {false, true}) {
      if (accumulate && !floating) continue;
      const Tensor x = random_tensor(stream, dtype, shape, 1, 0, 100),
                   y = random_tensor(stream, dtype, shape, 2, 0, 100);
      const TensorView flat_x = x.view().reshaped({10, shape.row_size()}),
                       flat_y = y.view().reshaped({10, shape.row_size()});
      const Padded wide_x(stream, flat_x, 1, 6), wide_y(stream, flat_y);
      const Tensor expected = converted(stream, flat_y, dtype);
      for (const RowRange& range : ranges)
        for (std::int64_t i = 0; i < range.count; ++i) {
          auto row = values_of(expected.view().slice_rows(range.to + i, 1));
          const auto from = values_of(flat_x.slice_rows(range.from + i, 1));
          for (std::size_t d = 0; d < row.size(); ++d) row[d] = from[d] + (accumulate ? row[d] : 0);
          assign(expected.view().slice_rows(range.to + i, 1), row);
        }
      copy_rows(stream, {.x = x, .ranges = ranges, .accumulate = accumulate, .y = y});
      copy_rows(stream, {.x = wide_x, .ranges = ranges, .accumulate = accumulate, .y = wide_y});
      EXPECT_TRUE(same_bits(flat_y, expected)) << shape.to_string() << accumulate;
      EXPECT_TRUE(same_bits(wide_y, expected) && wide_y.padding_untouched()) << shape.to_string() << accumulate;
    }
}

INSTANTIATE_TEST_SUITE_P(Types, CopyRowsOfEveryType,
                         testing::Values(DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8),
                         dtype_name<testing::TestParamInfo<DType>>);

TEST(CopyRows, AddsToOneRowInTheOrderOfTheRangesOnAnyNumberOfThreads) {
  const Stream stream;
  const Tensor x = random_tensor(stream, DType::f32, {300, 100}, 1);
  std::vector<RowRange> overlapping;
  for (std::int64_t i = 0; i < 200; ++i) overlapping.push_back({.from = i, .to = i / 50, .count = 60});
  const auto run = [&](int threads) {
    Tensor y = Tensor::zeros(stream, DType::f32, {64, 100});
    with_threads(threads, [&] { copy_rows(stream, {.x = x, .ranges = overlapping, .accumulate = true, .y = y}); });
    return y;
  };
  const Tensor one = run(1);
  for (const int threads : {2, 3, 5}) EXPECT_TRUE(same_bits(one, run(threads)));
}

TEST(Transpose, ExchangesRowsAndColumnsOrAddsThemInTheTypeOfTheResult) {
  const Stream stream;
  for (const Shape& shape : {Shape{1, 1}, Shape{5, 70}, Shape{64, 33}, Shape{100, 3}, Shape{0, 4}, Shape{4, 0}})
    for (const DType from : floating_types)
      for (const DType to : floating_types)
        for (const bool accumulate : {false, true}) {
          const Tensor x = random_tensor(stream, from, shape, 1),
                       y = random_tensor(stream, to, {shape[1], shape[0]}, 2);
          const Padded wide_x(stream, x), wide_y(stream, y);
          const std::vector<double> in = values_of(x), before = values_of(y);
          std::vector<double> sum;
          for (std::int64_t c = 0; c < shape[1]; ++c)
            for (std::int64_t r = 0; r < shape[0]; ++r)
              sum.push_back(in[static_cast<std::size_t>(r * shape[1] + c)] +
                            (accumulate ? before[static_cast<std::size_t>(c * shape[0] + r)] : 0));
          transpose(stream, {.x = wide_x, .accumulate = accumulate, .y = wide_y});
          EXPECT_LE(relative_error(values_of(wide_y), sum), 2 * rounding_of(to))
              << shape.to_string() << name_of(from) << name_of(to);
          EXPECT_TRUE(wide_y.padding_untouched());
        }
  const Tensor x(stream, DType::f32, {4, 2}), y(stream, DType::f32, {4, 2});
  EXPECT_THROW(transpose(stream, {.x = x, .y = y}), Error);
}

TEST(CopyRows, RefusesRangesOutsideEitherTensor) {
  const Stream stream;
  const Tensor x(stream, DType::f32, {4, 2}), y(stream, DType::f32, {3, 2}), narrow(stream, DType::f32, {4, 1}),
      other(stream, DType::f64, {4, 2});
  for (const RowRange& range : {RowRange{2, 0, 3}, {0, 2, 2}, {-1, 0, 1}, {0, -1, 1}, {0, 0, -1}})
    EXPECT_THROW(copy_rows(stream, {.x = x, .ranges = {&range, 1}, .y = y}), Error)
        << range.from << range.to << range.count;
  EXPECT_THROW(copy_rows(stream, {.x = narrow, .y = y}), Error);
  EXPECT_THROW(copy_rows(stream, {.x = other, .y = y}), Error);
}

}  // namespace
}  // namespace causeway::test

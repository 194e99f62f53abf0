#include "parallel/exchange/flat_parts.hpp"

#include <gtest/gtest.h>

#include "tests/support/ranks.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

class FlatPartsOn : public testing::TestWithParam<std::tuple<int, Device>> {};
INSTANTIATE_TEST_SUITE_P(Ranks, FlatPartsOn,
                         testing::Combine(testing::ValuesIn(rank_counts), testing::ValuesIn(devices())),
                         [](const auto& with) {
                           return std::to_string(std::get<0>(with.param)) + suffix_of(std::get<1>(with.param));
                         });

/// Element i of what rank `rank` contributes: sums of these round, so that their order shows.
double value_at(int rank, std::int64_t i) { return 1.0 / (3 + 7 * rank + static_cast<double>(i)); }

std::vector<double> values_of_rank(int rank, std::int64_t elements) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < elements; ++i) values.push_back(value_at(rank, i));
  return values;
}

/// assign() and values_of() for a dense tensor on the stream's device.
void write(const Stream& stream, TensorView x, const std::vector<double>& values) {
  const Tensor on_host = tensor_of(Stream(), x.dtype, x.shape, values);
  stream.upload(x.data, on_host.view().data, x.bytes());
}
std::vector<double> read(const Stream& stream, TensorView x) { return values_of(moved(x, stream, Stream())); }

TEST_P(FlatPartsOn, GatheringBringsEveryPartToItsPlace) {
  const auto& [count, device] = GetParam();
  on_ranks(count, device, [](Communicator& world, const Stream& stream) {
    constexpr std::int64_t each = 5;
    const Tensor apart(stream, DType::f64, {each}), whole(stream, DType::f64, {each * world.size()}),
        inside(stream, DType::f32, {world.size()});
    write(stream, apart, values_of_rank(world.rank(), each));
    const TensorView own = inside.view().slice_rows(world.rank(), 1);
    write(stream, own, std::vector<double>{100.0 + world.rank()});
    const FlatParts buffers[] = {{.whole = whole, .part = apart}, {.whole = inside, .part = own}};
    start_gather_of_parts(buffers, world, stream).wait();
    std::vector<double> expected, ranks;
    for (int rank = 0; rank < world.size(); ++rank) {
      for (const double value : values_of_rank(rank, each)) expected.push_back(value);
      ranks.push_back(100 + rank);
    }
    EXPECT_EQ(read(stream, whole), expected);
    EXPECT_EQ(read(stream, inside), ranks);
  });
}

TEST_P(FlatPartsOn, SumsHaveTheBitsOfATransportsReduction) {
  const auto& [count, device] = GetParam();
  on_ranks(count, device, [](Communicator& world, const Stream& stream) {
    constexpr std::int64_t each = 37;
    for (const DType dtype : {DType::f32, DType::f64}) {
      const Tensor whole(stream, dtype, {each * world.size()}), sum(stream, dtype, {each}),
          expected(stream, dtype, {each}), twice(stream, dtype, {each});
      write(stream, whole, values_of_rank(world.rank(), each * world.size()));
      world.reduce_scatter(whole, expected, std::vector<std::int64_t>(static_cast<std::size_t>(world.size()), each),
                           Reduction::sum, stream);
      const FlatParts buffer{.whole = whole, .part = sum};
      SumOfParts({&buffer, 1}, world, stream).finish(false, stream);
      EXPECT_EQ(read(stream, sum), read(stream, expected));
      SumOfParts({&buffer, 1}, world, stream).finish(true, stream);
      std::vector<double> doubled = read(stream, expected);
      for (double& value : doubled) value *= 2;
      EXPECT_EQ(read(stream, sum), doubled);
      // In the place of this rank's part of the buffer.
      const Tensor own(stream, dtype, {each * world.size()});
      write(stream, own, values_of_rank(world.rank(), each * world.size()));
      const FlatParts inside{.whole = own, .part = own.view().slice_rows(world.rank() * each, each)};
      SumOfParts({&inside, 1}, world, stream).finish(false, stream);
      EXPECT_EQ(read(stream, inside.part), read(stream, expected));
      EXPECT_EQ(read(stream, whole), [&] {  // not changed
        write(stream, expected, std::vector<double>(each, 0));
        const Tensor again(stream, dtype, {each * world.size()});
        write(stream, again, values_of_rank(world.rank(), each * world.size()));
        return read(stream, again);
      }());
    }
  });
}

/// What other ranks send is rounded once; a rank's own part is not, nor are the sums.
TEST_P(FlatPartsOn, SumsOfRoundedPartsAreAddedInTheirType) {
  const auto& [count, device] = GetParam();
  on_ranks(count, device, [](Communicator& world, const Stream& stream) {
    constexpr std::int64_t each = 37;
    const Tensor whole(stream, DType::f32, {each * world.size()}), sum(stream, DType::f32, {each});
    const auto sent = [&](int rank) { return values_of_rank(rank, each * world.size()); };
    write(stream, whole, sent(world.rank()));
    const FlatParts buffer{.whole = whole, .part = sum};
    const std::int64_t before = world.traffic().bytes_sent;
    SumOfParts sums({&buffer, 1}, world, stream, DType::bf16);
    EXPECT_FALSE(sums.reads_buffers());
    stream.zero(whole.view().data, whole.view().bytes());
    sums.finish(false, stream);
    EXPECT_EQ(world.traffic().bytes_sent - before, (world.size() - 1) * each * 2);
    std::vector<double> expected, exact;
    for (std::int64_t i = 0; i < each; ++i) {
      float total = 0;
      double wide = 0;
      for (int rank = 0; rank < world.size(); ++rank) {
        const auto value = static_cast<float>(sent(rank)[static_cast<std::size_t>(world.rank() * each + i)]);
        const float added = rank == world.rank() ? value : static_cast<float>(bf16(value));
        total = rank == 0 ? added : total + added;
        wide += value;
      }
      expected.push_back(total);
      exact.push_back(wide);
    }
    EXPECT_EQ(read(stream, sum), expected);
    EXPECT_LT(relative_error(read(stream, sum), exact), 2e-3);
  });
}

}  // namespace
}  // namespace causeway::test

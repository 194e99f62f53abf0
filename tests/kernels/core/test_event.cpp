#include "kernels/core/event.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "kernels/activation.hpp"
#include "kernels/core/gpu.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

TEST(Events, OnTheCpuAreReachedAtOnceAndMeasureTime) {
  const Stream stream;
  const Event begin(stream, true), end(stream, true);
  EXPECT_TRUE(begin.reached());
  end.wait();
  end.block(stream);
  EXPECT_GE(end.seconds_since(begin), 0);
  EXPECT_LT(end.seconds_since(begin), 10);
}

class GpuEvents : public testing::Test {
 protected:
  void SetUp() override {
    if (visible_gpus() == 0) GTEST_SKIP() << "no usable GPU";
    stream_.emplace(Device::cuda);
  }
  const Stream& stream() const { return *stream_; }
  /// Enqueues some tens of milliseconds of work that end with `value` in every element.
  Tensor slow_work(double value) const {
    Tensor x(stream(), DType::f32, {std::int64_t{1} << 28});
    for (int i = 0; i < 100; ++i) fill(stream(), {.value = i == 99 ? value : i, .y = x});
    return x;
  }

 private:
  std::optional<Stream> stream_;
};

TEST_F(GpuEvents, ASideStreamStartsAfterTheEventThatBlocksIt) {
  const Stream other = stream().side_stream();
  const Tensor x = slow_work(7), first(stream(), DType::f32, {1000});
  const Event written(stream());
  EXPECT_FALSE(written.reached()) << "the host does not wait for the device";
  written.block(other);
  other.copy(first.view().data, x.view().data, first.view().bytes());
  const Event read(other);
  read.block(stream());
  fill(stream(), {.value = 1, .y = x});
  EXPECT_EQ(values_of(moved(first, stream(), Stream())), std::vector<double>(1000, 7));
}

TEST_F(GpuEvents, MeasureTheDevicesTime) {
  const Event begin(stream(), true);
  const Tensor x = slow_work(0);
  const Event end(stream(), true);
  end.wait();
  EXPECT_GT(end.seconds_since(begin), 1e-3);
  EXPECT_LT(end.seconds_since(begin), 10);
}

TEST_F(GpuEvents, AWaitingHostCallsTheCheckWhichMayEndTheWait) {
  int calls = 0;
  check_while_waiting(stream(), [&] { ++calls; });
  Tensor x = slow_work(1);
  stream().wait();
  EXPECT_GT(calls, 0);
  check_while_waiting(stream(), [] { throw std::runtime_error("gone"); });
  x = slow_work(2);
  EXPECT_THROW(stream().wait(), std::runtime_error);
  check_while_waiting(stream(), {});
  EXPECT_NO_THROW(stream().wait());
}

TEST_F(GpuEvents, TheSourceOfAnUploadMayChangeAtOnce) {
  const Tensor busy = slow_work(0), x(stream(), DType::f64, {5000});
  std::vector<double> source(5000, 3);
  stream().upload(x.view().data, source.data(), x.view().bytes());
  std::ranges::fill(source, 4);
  EXPECT_EQ(values_of(moved(x, stream(), Stream())), std::vector<double>(5000, 3));
}

}  // namespace
}  // namespace causeway::test

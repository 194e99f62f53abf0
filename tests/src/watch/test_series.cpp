#include "src/watch/series.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace causeway::test {
namespace {

TEST(WatchSeries, AMillionValuesBecomeMeansInOrder) {
  Series series;
  constexpr std::int64_t count = 1'000'000;
  for (std::int64_t step = 1; step <= count; ++step) series.add(step, static_cast<double>(step));
  ASSERT_LE(series.buckets().size(), Series::most_buckets);
  EXPECT_GE(series.buckets().size(), Series::most_buckets / 2 - 1);
  std::int64_t values = 0, last = 0;
  for (const Series::Bucket& bucket : series.buckets()) {
    EXPECT_EQ(bucket.first_step, last + 1);
    EXPECT_DOUBLE_EQ(bucket.mean(), 0.5 * static_cast<double>(bucket.first_step + bucket.last_step));
    values += bucket.count;
    last = bucket.last_step;
  }
  EXPECT_EQ(values, count);
  EXPECT_EQ(last, count);
}

TEST(WatchSeries, IgnoresValuesThatAreNotFinite) {
  Series series;
  for (const double value :
       {1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1e300, 3.0})
    series.add(1, value);
  EXPECT_EQ(series.buckets().size(), 2u);
}

}  // namespace
}  // namespace causeway::test

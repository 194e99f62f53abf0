#include "src/watch/series.hpp"

#include <algorithm>
#include <cmath>

namespace causeway {
namespace {

void merge(Series::Bucket& into, const Series::Bucket& other) {
  into.first_step = std::min(into.first_step, other.first_step);
  into.last_step = std::max(into.last_step, other.last_step);
  into.count += other.count;
  into.sum += other.sum;
}

}  // namespace

void Series::add(std::int64_t step, double value) {
  constexpr double largest = 1e250;  // so that no sum overflows
  if (!(std::abs(value) <= largest)) return;
  const Bucket one{.first_step = step, .last_step = step, .count = 1, .sum = value};
  if (!buckets_.empty() && buckets_.back().count < stride_) return merge(buckets_.back(), one);
  if (buckets_.size() == most_buckets) {
    for (std::size_t i = 0; i < most_buckets / 2; ++i) {
      buckets_[i] = buckets_[2 * i];
      merge(buckets_[i], buckets_[2 * i + 1]);
    }
    buckets_.resize(most_buckets / 2);
    stride_ *= 2;
  }
  buckets_.push_back(one);
}

}  // namespace causeway

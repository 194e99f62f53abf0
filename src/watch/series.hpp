#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace causeway {

/// Values over steps, in bounded memory: at most `most_buckets` means. When all buckets are used, neighbours are
/// merged, and from then on a bucket takes twice as many values.
class Series {
 public:
  struct Bucket {
    std::int64_t first_step = 0, last_step = 0, count = 0;
    double sum = 0;
    double mean() const { return sum / static_cast<double>(count); }
  };
  static constexpr std::size_t most_buckets = 2048;

  /// Ignores a value that is not finite, or too large to be summed.
  void add(std::int64_t step, double value);
  const std::vector<Bucket>& buckets() const { return buckets_; }

 private:
  std::vector<Bucket> buckets_;
  std::int64_t stride_ = 1;  // number of values a bucket takes
};

}  // namespace causeway

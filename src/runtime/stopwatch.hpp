#pragma once

#include <cstdint>
#include <functional>

#include "kernels/core/tensor.hpp"
#include "parallel/cost/repeated_seconds.hpp"

namespace causeway {

/// The size of a measurement that is large enough to keep the device busy.
inline std::int64_t size_for(const Stream& stream, std::int64_t on_cpu, std::int64_t on_gpu) {
  return stream.device() == Device::cuda ? on_gpu : on_cpu;
}

/// Measures the median time of many runs of the same work, by the device's own clock.
class Stopwatch {
 public:
  /// A measurement takes at least `least_seconds` and five runs, at most 100; two warm-up runs are not counted.
  Stopwatch(const Stream& stream, double least_seconds);

  const Stream& stream() const { return stream_; }
  /// Before every run it reads a buffer larger than the caches, so that `run` finds its tensors in memory and not in a
  /// cache. On a GPU this also gives the host the time to enqueue all launches of `run` before the first one starts.
  double median_seconds(const std::function<void()>& run) const;
  /// Measures runs in the same way until their time repeats, for at most about `most` seconds.
  RepeatedSeconds repeated_seconds(double most, const std::function<void()>& run) const;

 private:
  double timed_run(const std::function<void()>& run) const;

  Stream stream_;
  double least_seconds_;
  Tensor flush_, sum_;
};

}  // namespace causeway

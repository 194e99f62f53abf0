#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "kernels/tensor.hpp"

namespace causeway {

/// What is timed, once over: `run`, and the least that it has to do. Bytes count what its tensors hold once each way it
/// travels (what a kernel reads twice, or saves for itself, is its own affair); flops its multiplications and
/// additions; exponentials those of the formula.
struct Task {
  std::function<void()> run;
  std::string shape;
  double bytes = 0, flops = 0, exponentials = 0;
};

/// What this device reaches at nothing but copying, multiplying matrices, and taking exponentials.
struct Ceilings {
  double bytes_per_second = 0, flops_per_second = 0, exponentials_per_second = 0;
};

/// The least time a task can take under the ceilings, and the one that says so.
struct Floor {
  double seconds = 0;
  std::string_view binds;  ///< "copy", "gemm" or "exp2"
};
Floor floor_of(const Task& task, const Ceilings& ceilings);

/// The median of many runs of a task, by the device's own clock.
class Stopwatch {
 public:
  /// Measures each task for `least_seconds` and five times at least, two runs before that uncounted.
  Stopwatch(const Stream& stream, double least_seconds);

  const Stream& stream() const { return stream_; }
  /// Before every run a buffer larger than the caches is read, so that the task finds its tensors in memory. On a GPU
  /// that also gives the host the time to enqueue the task's launches before the first one starts.
  double median_seconds(const Task& task) const;

 private:
  Stream stream_;
  double least_seconds_;
  Tensor flush_, sum_;
};

/// What a square product in `dtype` reaches, in operations a second, whichever of its operands is transposed: libraries
/// are not equally fast at all.
double gemm_rate(const Stopwatch& stopwatch, DType dtype);

/// Read and write of a buffer beyond all caches, a square product in `dtype`, and exponentials in its accumulator type.
Ceilings measure_ceilings(const Stopwatch& stopwatch, DType dtype);

}  // namespace causeway

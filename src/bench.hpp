#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.hpp"
#include "kernels/stream.hpp"
#include "src/launch.hpp"

namespace causeway {

/// What is timed: `run` once over, with the bytes its tensors hold counted once each way they travel (so a cache makes more than 100 % possible,
/// and every second pass over a tensor less), and its multiplications and additions where those are what limits it.
struct Task {
  std::function<void()> run;
  std::int64_t bytes = 0;
  double flops = 0;
};

/// One line of a benchmark's report.
struct Measurement {
  std::string name, shape;
  std::int64_t documents = 0;  ///< 0: it knows none
  double seconds = 0;          ///< the median
  std::int64_t bytes = 0;
  double flops = 0;

  double gigabytes_per_second() const { return static_cast<double>(bytes) / seconds / 1e9; }
};

/// Runs the task once to warm up, then until it has run 5 times and for `least_seconds`, and returns the median of one run.
double median_seconds(const Task& task, const Stream& stream, double least_seconds);

/// A memory copy with the threads the kernels use: what GB/s are compared with. Counts the bytes read and the bytes written.
Measurement measure_copy(const Stream& stream, double least_seconds);

struct BenchSettings {
  std::string topic = "operators";
  std::string json;              ///< file to write the report to as well
  std::string dtype = "f32";
  std::string filter;            ///< only what has this in its name
  std::int64_t tokens = 0;       ///< instead of the built-in sizes, with `channels`
  std::int64_t channels = 0;
  double least_seconds = 0.3;
  LaunchOptions launch;
};

/// Every operator of a Mamba, forward and backward, on this machine's CPU: a row each in src/bench_operators.cpp. Calls `report` with each result.
void bench_operators(const BenchSettings& settings, const std::function<void(const Measurement&)>& report);

}  // namespace causeway

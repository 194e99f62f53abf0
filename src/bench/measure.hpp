#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "src/runtime/stopwatch.hpp"

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

/// Read and write of a buffer beyond all caches, a square product in `dtype`, and exponentials in its accumulator type.
Ceilings measure_ceilings(const Stopwatch& stopwatch, DType dtype);

}  // namespace causeway

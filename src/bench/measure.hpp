#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/runtime/stopwatch.hpp"

namespace causeway {

/// A call to time, and the least work it must do. `bytes`: every input is read once and every output is written once;
/// repeated reads and temporary data of a kernel do not count. `flops`: multiplications and additions. `exponentials`:
/// those of the formula.
struct Task {
  std::function<void()> run;
  std::string shape;
  double bytes = 0, flops = 0, exponentials = 0;
};

/// The rates that this device reaches when it only copies, only multiplies matrices, or only computes exponentials.
struct Ceilings {
  double bytes_per_second = 0, flops_per_second = 0, exponentials_per_second = 0;
};

/// The least time that a task can take under the ceilings, and the ceiling that sets it.
struct Floor {
  double seconds = 0;
  std::string_view binds;  ///< "copy", "gemm" or "exp2"
};
Floor floor_of(const Task& task, const Ceilings& ceilings);

/// Measures reading and writing of a buffer larger than all caches, a square matrix product in `dtype`, and
/// exponentials in its accumulator type.
Ceilings measure_ceilings(const Stopwatch& stopwatch, DType dtype);

/// The middle value, the upper one of an even number; there is at least one.
double median(std::vector<double> values);

}  // namespace causeway

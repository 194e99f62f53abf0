#pragma once

#include <functional>
#include <string>

#include "src/bench/measure.hpp"

namespace causeway {

struct OperatorBenchSettings {
  DType dtype = DType::f32;
  std::string filter;         ///< only rows that have this in their name
  std::int64_t tokens = 0;    ///< instead of the built-in sizes, with `channels`
  std::int64_t channels = 0;  ///< a multiple of 16, of 128 above 1024
};

/// One line of the report.
struct Measurement {
  std::string name, shape;
  std::int64_t documents = 0;  ///< 0: it knows none
  double seconds = 0;          ///< the median; 0 where `failure` says why it was not measured
  double bytes = 0, flops = 0, exponentials = 0;
  Floor floor;
  std::string failure;
  ExitCode code = ExitCode::ok;  ///< of the failure; usage: what this device or type has no kernel for

  double bytes_per_second() const { return bytes / seconds; }
  double part_of_ceiling() const { return floor.seconds / seconds; }
};

/// On the CPU the built-in sizes are divided, so that all of them take a laptop about a minute.
inline constexpr std::int64_t cpu_token_divisor = 16, cpu_channel_divisor = 8;

/// Every operator, forward and backward, on the stopwatch's device: the rows of src/bench/mixers.cpp and
/// src/bench/rows.cpp. Calls `report` with each.
void bench_operators(const OperatorBenchSettings& settings, const Stopwatch& stopwatch, const Ceilings& ceilings,
                     const std::function<void(const Measurement&)>& report);

}  // namespace causeway

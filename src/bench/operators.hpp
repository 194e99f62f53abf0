#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "src/bench/measure.hpp"

namespace causeway {

struct OperatorBenchSettings {
  DType dtype = DType::f32;
  std::string filter;         ///< only rows whose names match it
  std::int64_t tokens = 0;    ///< with `channels`: instead of the built-in sizes; 0: these
  std::int64_t channels = 0;  ///< a multiple of 16, of 128 above 1024
};

/// Whether the name has one of the filter's texts in it, which commas separate. An empty text is in every name.
bool matches(std::string_view filter, std::string_view name);

/// One line of the report.
struct Measurement {
  std::string name, shape;
  std::int64_t documents = 0;  ///< 0: the operator has no documents
  double seconds = 0;          ///< the median; 0 if it was not measured, see `failure`
  double bytes = 0, flops = 0, exponentials = 0;
  Floor floor;
  std::string failure;
  ExitCode code = ExitCode::ok;  ///< of the failure; usage: there is no kernel for this device or type

  double bytes_per_second() const { return bytes / seconds; }
  double part_of_ceiling() const { return floor.seconds / seconds; }
};

std::string text_of(const Measurement& row);
nlohmann::ordered_json to_json(const Measurement& row);
/// The line above the measurements, and the one above that.
std::string columns_of_operators(DType dtype);
std::string text_of(const Ceilings& ceilings, Device device, DType dtype);
nlohmann::ordered_json to_json(const Ceilings& ceilings);

/// On the CPU the built-in sizes are divided by these, so that all rows take about a minute on a laptop.
inline constexpr std::int64_t cpu_token_divisor = 16, cpu_channel_divisor = 8;

/// Measures every operator, forward and backward, on the stopwatch's device: the rows of mixer_benchmarks() and
/// row_benchmarks(). Calls `report` with each measurement.
void bench_operators(const OperatorBenchSettings& settings, const Stopwatch& stopwatch, const Ceilings& ceilings,
                     const std::function<void(const Measurement&)>& report);

}  // namespace causeway

/// The lines of `bench operators` for people, and for programs.

#include <fmt/format.h>

#include "src/bench/operators.hpp"

namespace causeway {

std::string text_of(const Ceilings& ceilings, Device device, DType dtype) {
  return fmt::format("ceilings on {}: copy {:.1f} GB/s (read + write), gemm {:.1f} GFLOP/s in {}, exp2 {:.2f} G/s\n",
                     name_of(device), ceilings.bytes_per_second / 1e9, ceilings.flops_per_second / 1e9, name_of(dtype),
                     ceilings.exponentials_per_second / 1e9);
}

nlohmann::ordered_json to_json(const Ceilings& ceilings) {
  return {{"gigabytes_per_second", ceilings.bytes_per_second / 1e9},
          {"gigaflops", ceilings.flops_per_second / 1e9},
          {"giga_exponentials_per_second", ceilings.exponentials_per_second / 1e9}};
}

std::string columns_of_operators(DType dtype) {
  return fmt::format("{:<28} {:>22} {:>9} {:>10} {:>8} {:>9} {:>8} {}\n", name_of(dtype), "shape", "documents", "ms",
                     "GB/s", "GFLOP/s", "of", "ceiling");
}

std::string text_of(const Measurement& row) {
  const std::string documents = row.documents > 0 ? fmt::to_string(row.documents) : "";
  if (!row.failure.empty())
    return fmt::format("{:<28} {:>22} {:>9} not measured: {}\n", row.name, row.shape, documents, row.failure);
  return fmt::format("{:<28} {:>22} {:>9} {:>10.3f} {:>8.1f} {:>9} {:>6.1f} % {}\n", row.name, row.shape, documents,
                     row.seconds * 1e3, row.bytes_per_second() / 1e9,
                     row.flops > 0 ? fmt::format("{:.0f}", row.flops / row.seconds / 1e9) : "",
                     100 * row.part_of_ceiling(), row.floor.binds);
}

nlohmann::ordered_json to_json(const Measurement& row) {
  nlohmann::ordered_json entry{{"name", row.name}, {"shape", row.shape}, {"documents", row.documents}};
  if (!row.failure.empty()) {
    entry["failure"] = row.failure;
    return entry;
  }
  entry.update({{"milliseconds", row.seconds * 1e3},
                {"bytes", row.bytes},
                {"flops", row.flops},
                {"exponentials", row.exponentials},
                {"gigabytes_per_second", row.bytes_per_second() / 1e9},
                {"floor_milliseconds", row.floor.seconds * 1e3},
                {"part_of_ceiling", row.part_of_ceiling()},
                {"ceiling", row.floor.binds}});
  return entry;
}

}  // namespace causeway

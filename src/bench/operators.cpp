#include "src/bench/operators.hpp"

#include <vector>

#include "src/bench/documents.hpp"
#include "src/bench/workload.hpp"

namespace causeway {
namespace {

/// The sizes at which a row is measured.
std::vector<Size> sizes_of(const OperatorBenchmark& row, const OperatorBenchSettings& settings, Device device) {
  if (settings.tokens > 0) return {{settings.tokens, settings.channels}};
  std::vector<Size> sizes(row.sizes.begin(), row.sizes.end());
  if (device == Device::cpu)
    for (Size& size : sizes) {
      size.tokens /= cpu_token_divisor;
      size.channels /= cpu_channel_divisor;
    }
  return sizes;
}

/// cu_seqlens of the packs of a row: the documents of the size. If the size has one document and the operator has
/// documents, also many short ones.
std::vector<std::vector<std::int64_t>> packs_of(const OperatorBenchmark& row, const Size& size) {
  const Segments equal = Segments::equal_documents(size.tokens, size.documents);
  std::vector<std::vector<std::int64_t>> packs{{equal.cu_seqlens().begin(), equal.cu_seqlens().end()}};
  if (row.packed && size.documents == 1) packs.push_back(packed_documents(size.tokens));
  return packs;
}

Measurement measure(const OperatorBenchmark& row, const Workload& work, const Stopwatch& stopwatch,
                    const Ceilings& ceilings) {
  Measurement result{.name = std::string(row.name),
                     .shape = work.rows().to_string(),
                     .documents = row.packed ? work.segments.count : 0};
  try {
    const Task task = row.prepare(work);
    result.shape = task.shape;
    result.seconds = stopwatch.median_seconds(task.run);
    result.bytes = task.bytes;
    result.flops = task.flops;
    result.exponentials = task.exponentials;
    result.floor = floor_of(task, ceilings);
  } catch (const Error& error) {
    // No kernel for this device or type, or not enough memory. The other rows are still measured.
    result.failure = error.what();
    result.code = error.code();
  }
  return result;
}

}  // namespace

bool matches(std::string_view filter, std::string_view name) {
  for (std::size_t begin = 0, end = 0; end != std::string_view::npos; begin = end + 1) {
    end = filter.find(',', begin);
    if (name.find(filter.substr(begin, end - begin)) != std::string_view::npos) return true;
  }
  return false;
}

void bench_operators(const OperatorBenchSettings& settings, const Stopwatch& stopwatch, const Ceilings& ceilings,
                     const std::function<void(const Measurement&)>& report) {
  const Stream& stream = stopwatch.stream();
  for (const auto& table : {mixer_benchmarks(), row_benchmarks()})
    for (const OperatorBenchmark& row : table) {
      if (!matches(settings.filter, row.name)) continue;
      for (const Size& size : sizes_of(row, settings, stream.device()))
        for (std::vector<std::int64_t>& cu_seqlens : packs_of(row, size)) {
          const DeviceSegments documents(stream, std::move(cu_seqlens), size.tokens);
          report(measure(row,
                         {.stream = stream,
                          .dtype = settings.dtype,
                          .tokens = size.tokens,
                          .channels = size.channels,
                          .segments = documents.view()},
                         stopwatch, ceilings));
        }
    }
}

}  // namespace causeway

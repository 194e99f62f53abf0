#pragma once

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>

#include "kernels/core/kernel.hpp"
#include "kernels/core/segments.hpp"
#include "src/bench/measure.hpp"
#include "src/runtime/benchmark_tensors.hpp"

namespace causeway {

/// The size and the documents for which a row prepares its task.
struct Workload {
  const Stream& stream;
  DType dtype;
  std::int64_t tokens, channels;
  SegmentsView segments;

  DType wide() const { return accumulator_of(dtype); }
  Shape rows() const { return {tokens, channels}; }
  double elements() const { return static_cast<double>(tokens) * static_cast<double>(channels); }
  std::int64_t longest_document() const {
    std::int64_t longest = 0;
    for (std::int64_t s = 0; s < segments.count; ++s)
      longest = std::max(longest, segments.host[s + 1] - segments.host[s]);
    return longest;
  }
  /// The number of pairs (t, u) of tokens of one document with u <= t: what causal attention computes on.
  double pairs() const {
    double sum = 0;
    for (std::int64_t s = 0; s < segments.count; ++s) {
      const auto length = static_cast<double>(segments.host[s + 1] - segments.host[s]);
      sum += length * (length + 1) / 2;
    }
    return sum;
  }
};

struct Size {
  std::int64_t tokens, channels, documents = 1;  ///< of equal length
};

/// A row of `causeway bench operators`. It is measured at each size, on one long document and, if `packed`, also on a
/// pack of short documents.
struct OperatorBenchmark {
  std::string_view name;
  bool packed;                  ///< the operator depends on the documents
  std::span<const Size> sizes;  ///< on a GPU
  Task (*prepare)(const Workload&);
};

std::span<const OperatorBenchmark> mixer_benchmarks();  ///< mixers.cpp: operators that mix tokens
std::span<const OperatorBenchmark> row_benchmarks();    ///< rows.cpp: all other kernels

/// The operations that a call must at least do (see Task).
struct Least {
  double flops = 0, exponentials = 0;
};

/// The task of calling `kernel` with `args`, whose tensors `made` owns. `reads` and `writes` are the tensors that must
/// be read and written; `shown` gives the shape to print.
template <class Args>
Task task_of(std::shared_ptr<BenchmarkTensors> made, const Kernel<Args>& kernel, const Args& args, TensorView shown,
             std::initializer_list<TensorView> reads, std::initializer_list<TensorView> writes, Least least = {}) {
  double bytes = 0;
  for (const auto& tensors : {reads, writes})
    for (const TensorView& x : tensors) bytes += static_cast<double>(x.bytes());
  return {.run = [made = std::move(made), &kernel, args] { kernel(made->stream(), args); },
          .shape = shown.shape.to_string(),
          .bytes = bytes,
          .flops = least.flops,
          .exponentials = least.exponentials};
}

}  // namespace causeway

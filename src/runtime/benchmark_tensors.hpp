#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// Fills a dense `x` with values in [low, high). 65,537 values are drawn and repeated, because to draw every element
/// would take longer than the benchmark; that number is a prime, so that the values do not repeat with a tensor's rows.
void fill_with_random(const Stream& stream, TensorView x, double low, double high, std::uint64_t seed);

/// Makes the tensors of a benchmark, and owns them.
class BenchmarkTensors {
 public:
  explicit BenchmarkTensors(const Stream& stream) : stream_(stream) {}

  TensorView random(DType dtype, Shape shape, double low = -1, double high = 1);
  TensorView ids(std::int64_t count, std::int64_t vocabulary);
  TensorView empty(DType dtype, Shape shape) { return tensors_.emplace_back(Tensor::zeros(stream_, dtype, shape)); }

  const Stream& stream() const { return stream_; }

 private:
  Stream stream_;
  std::vector<Tensor> tensors_;
};

}  // namespace causeway

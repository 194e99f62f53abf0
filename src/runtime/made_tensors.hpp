#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// `x`, dense, filled with numbers of [low, high): 65,537 of them over and over, which no power of two divides. Drawing
/// each would take longer than what is measured.
void fill_with_random(const Stream& stream, TensorView x, double low, double high, std::uint64_t seed);

/// Tensors made up for a benchmark, alive as long as this is.
class MadeTensors {
 public:
  explicit MadeTensors(const Stream& stream) : stream_(stream) {}

  TensorView random(DType dtype, Shape shape, double low = -1, double high = 1);
  TensorView ids(std::int64_t count, std::int64_t vocabulary);
  TensorView empty(DType dtype, Shape shape) { return tensors_.emplace_back(Tensor::zeros(stream_, dtype, shape)); }

  const Stream& stream() const { return stream_; }

 private:
  Stream stream_;
  std::vector<Tensor> tensors_;
};

}  // namespace causeway

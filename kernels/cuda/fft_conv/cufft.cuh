#pragma once

#include <compare>
#include <cstdint>

#include "kernels/core/dtype.hpp"
#include "kernels/core/stream.hpp"

namespace causeway::cuda {

/// `count` complex transforms of `length` numbers `stride` apart, each `distance` from the last; dtype is that of their
/// parts.
struct TransformBatch {
  DType dtype;
  std::int64_t length, count, stride, distance;

  auto operator<=>(const TransformBatch&) const = default;
};

/// In place, unscaled, by cuFFT. A plan a batch is kept as a companion of the stream, whose pool gives the workspace.
void transform(const Stream& stream, const TransformBatch& batch, bool inverse, void* data);

}  // namespace causeway::cuda

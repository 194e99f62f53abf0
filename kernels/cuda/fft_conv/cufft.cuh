#pragma once

#include <compare>
#include <cstdint>

#include "kernels/core/dtype.hpp"
#include "kernels/core/stream.hpp"

namespace causeway::cuda {

/// `count` complex transforms of `length` points each. Neighbouring points of a transform are `stride` points apart,
/// the first points of neighbouring transforms `distance`. `dtype` is the type of a real or imaginary part.
struct TransformBatch {
  DType dtype;
  std::int64_t length, count, stride, distance;

  auto operator<=>(const TransformBatch&) const = default;
};

/// Transforms `data` in place by cuFFT, unscaled. The plan of each TransformBatch is a resource of the stream;
/// the stream's memory pool provides the workspace.
void transform(const Stream& stream, const TransformBatch& batch, bool inverse, void* data);

}  // namespace causeway::cuda

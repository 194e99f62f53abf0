#pragma once

#include <cstdint>

#include "kernels/cuda/device/packet.cuh"

namespace causeway::cuda {

/// A parameter stored in the type T of the activations or in its accumulator type. An absent one is zero.
template <class T>
struct ParameterRows {
  using R = Accumulator<T>;
  const T* narrow;
  const R* wide;
  std::int64_t stride;

  explicit ParameterRows(TensorView x)
      : narrow(x.present() && x.dtype != dtype_of<R> ? static_cast<const T*>(x.data) : nullptr),
        wide(x.present() && x.dtype == dtype_of<R> ? static_cast<const R*>(x.data) : nullptr),
        stride(x.row_stride) {}
  __device__ bool present() const { return narrow != nullptr || wide != nullptr; }
  __device__ R operator()(std::int64_t row, std::int64_t column = 0) const {
    if (wide != nullptr) return wide[row * stride + column];
    return narrow != nullptr ? widened(narrow[row * stride + column]) : R(0);
  }
};

}  // namespace causeway::cuda

#pragma once

#include <cstdint>

#include "kernels/blocked_conv.hpp"
#include "kernels/cuda/device/chunks.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/packet.cuh"

/// The gated grouped convolution on a GPU, two ways: as Toeplitz products on tensor cores (bf16, a group of whole tiles
/// of 16 channels, up to 129 taps; blocked_conv_mma*.cu) and by multiply-adds for every other type and shape
/// (blocked_conv_direct.cu). Both are one walk for the two directions: y = q⊙(h∗(k⊙v)) from left to right, and from
/// right to left the gradient of the product, h∗(q⊙d_y) seen in reversed time.
///
/// Floor (H200, 4.2 TB/s of copies; L 65536, D 4096, bf16): 4 accesses an element forward, 0.51 ms, 7 backward, 0.89.
/// Reached with 256 groups, documents of 57 to 2048 tokens as one long one: 7 taps 0.53 and 1.40 ms, 128 taps 0.57 and
/// 1.82 ms, that is 1.01, 1.54, 1.08 and 1.99 times a copy of as many bytes in the same run.
namespace causeway::cuda {

/// A parameter that may be stored in the activations' type T or its accumulator type; absent: zero.
template <class T>
struct Parameter {
  using R = Accumulator<T>;
  const T* narrow;
  const R* wide;
  std::int64_t stride;

  explicit Parameter(TensorView x)
      : narrow(x.present() && x.dtype != dtype_of<R> ? static_cast<const T*>(x.data) : nullptr),
        wide(x.present() && x.dtype == dtype_of<R> ? static_cast<const R*>(x.data) : nullptr),
        stride(x.row_stride) {}
  __device__ bool present() const { return narrow != nullptr || wide != nullptr; }
  __device__ R operator()(std::int64_t row, std::int64_t column = 0) const {
    if (wide != nullptr) return wide[row * stride + column];
    return narrow != nullptr ? widened(narrow[row * stride + column]) : R(0);
  }
};

/// Rows of a tensor; data is null where it is absent.
template <class T>
Rows<T> rows_of(TensorView x) {
  Rows<T> rows(x);
  if (!x.present()) rows.data = nullptr;
  return rows;
}

/// d_taps[g, j] += Σ over parts, and over the `columns / groups` columns of group g, of partial[part][j][column], and
/// d_skip[channel] += Σ over parts of skips[part · skip_step + channel]: always in the same order.
template <class R>
struct FilterParts {
  const R* partial;
  std::int64_t parts, columns;
  const R* skips;
  std::int64_t skip_step;
};
template <class R>
void add_filter_parts(const Stream& stream, const FilterParts<R>& from, TensorView d_taps, TensorView d_skip);

/// Multiply-adds, any type and shape.
template <class T>
void direct_conv_forward(const Stream& stream, const BlockedConvForward& args);
template <class T>
void direct_conv_backward(const Stream& stream, const BlockedConvBackward& args);

/// Tensor cores: whether they can, and both directions where they can.
bool suits_tensor_cores(const BlockedConvForward& args);
bool suits_tensor_cores(const BlockedConvBackward& args);
void tensor_core_conv_forward(const Stream& stream, const BlockedConvForward& args);
void tensor_core_conv_backward(const Stream& stream, const BlockedConvBackward& args);

}  // namespace causeway::cuda

#pragma once

#include <cstdint>

#include "kernels/blocked_conv.hpp"
#include "kernels/cuda/device/chunks.cuh"
#include "kernels/cuda/device/elementwise.cuh"
#include "kernels/cuda/device/packet.cuh"
#include "kernels/cuda/device/parameter_rows.cuh"

/// The gated grouped convolution on a GPU, in two ways:
/// - as Toeplitz products on tensor cores (blocked_conv_mma.cu, blocked_conv_mma_backward.cu) for bf16, groups of a
///   multiple of 16 channels and at most 129 taps;
/// - by multiply-adds (blocked_conv_direct.cu) for every other type and shape.
/// In both, one algorithm serves both scan directions: y = q⊙(h∗(k⊙v)) from left to right, and from right to left the
/// gradient of the product k⊙v, which is h∗(q⊙d_y) in reversed time.
///
/// Lower bound (H200, 4.2 TB/s of copies; L 65536, D 4096, bf16): 4 accesses per element forward, 0.51 ms; 7 backward,
/// 0.89 ms. Measured with 256 groups, the same for documents of 57 to 2048 tokens and for one long one: 7 taps 0.53 and
/// 1.40 ms, 128 taps 0.57 and 1.82 ms. These are 1.01, 1.54, 1.08 and 1.99 times a copy of as many bytes in the same
/// run.
namespace causeway::cuda {

/// The rows of a tensor; `data` is null if the tensor is absent.
template <class T>
Rows<T> rows_of(TensorView x) {
  Rows<T> rows(x);
  if (!x.present()) rows.data = nullptr;
  return rows;
}

/// Partial sums of the gradients of the filter, one for each part of the tokens.
template <class R>
struct FilterParts {
  const R* partial;  ///< [parts, taps, columns] of d_taps; a group of the filter has columns / groups columns
  std::int64_t parts, columns;
  const R* skips;  ///< of d_skip: channel c of part p is at p · skip_step + c
  std::int64_t skip_step;
};

/// d_taps[g, j] += Σ partial[p, j, c] over the parts p and the columns c of group g, and d_skip[c] += Σ skips over the
/// parts. The order of the additions is fixed.
template <class R>
void add_filter_parts(const Stream& stream, const FilterParts<R>& from, TensorView d_taps, TensorView d_skip);

/// By multiply-adds, for any type and shape.
template <class T>
void direct_conv_forward(const Stream& stream, const BlockedConvForward& args);
template <class T>
void direct_conv_backward(const Stream& stream, const BlockedConvBackward& args);

/// Whether tensor cores support these types and shapes; and both directions on them.
bool suits_tensor_cores(const BlockedConvForward& args);
bool suits_tensor_cores(const BlockedConvBackward& args);
void tensor_core_conv_forward(const Stream& stream, const BlockedConvForward& args);
void tensor_core_conv_backward(const Stream& stream, const BlockedConvBackward& args);

}  // namespace causeway::cuda

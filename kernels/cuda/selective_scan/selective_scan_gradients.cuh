#pragma once

#include "kernels/cuda/selective_scan/selective_scan.cuh"

/// Where the partial sums of both backward passes go.
namespace causeway::cuda {

/// Receives d_B and d_C from add_parts_in_order: elements of [tokens][2][N].
template <class T>
struct RowGradients {
  T *d_B, *d_C;
  std::int64_t B_stride, C_stride;
  int states;

  __device__ Accumulator<T> start(std::int64_t) const { return 0; }
  __device__ void store(std::int64_t element, Accumulator<T> sum) const {
    const std::int64_t t = element / (2 * states), n = element % states;
    T& to = element / states % 2 == 0 ? d_B[t * B_stride + n] : d_C[t * C_stride + n];
    to = narrowed<T>(sum);
  }
};

/// Receives d_A, d_D and d_delta_bias from add_parts_by_warps: rows of [N + 2][channels].
template <class R>
struct ParameterGradients {
  R *d_A, *d_D, *d_bias;
  std::int64_t A_stride, D_stride, bias_stride;
  int states;

  __device__ void add(int n, std::int64_t channel, double sum) const {
    R* const to = n < states    ? d_A + channel * A_stride + n
                  : n == states ? (d_D == nullptr ? nullptr : d_D + channel * D_stride)
                                : (d_bias == nullptr ? nullptr : d_bias + channel * bias_stride);
    if (to != nullptr) *to = static_cast<R>(static_cast<double>(*to) + sum);
  }
};

/// The backward pass in turns, for bf16 with 16 states, softplus, 16-byte aligned rows and a multiple of 16 channels.
/// Returns false, having done nothing, where it does not apply or is not faster.
bool backward_in_turns(const Stream& stream, const SelectiveScanBackward& args);

}  // namespace causeway::cuda

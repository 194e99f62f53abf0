#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

/// The bias of a dense layer. Every kernel throws Error(internal) if shapes or dtypes do not fit.
namespace causeway {

/// y[t] = bias, rounded to y's dtype: a product that is added to y (kernels/gemm.hpp, beta = 1) is then rounded once.
struct BiasForward {
  TensorView bias;  ///< [D], accumulator type
  TensorView y;     ///< [tokens, D], written
};
extern const Kernel<BiasForward> bias_forward;

/// d_bias += Σ_t d_y[t], summed in float64 in a fixed order.
struct BiasBackward {
  TensorView d_y;     ///< [tokens, D]
  TensorView d_bias;  ///< [D], accumulator type, added to
};
extern const Kernel<BiasBackward> bias_backward;

}  // namespace causeway

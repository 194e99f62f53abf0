#pragma once

#include "kernels/expect.hpp"
#include "kernels/gated_conv.hpp"

/// Checks of the arguments that every gated convolution has, for both devices.
namespace causeway {

inline void expect_gated_inputs(const GatedConvInputs& in) {
  const DType dtype = in.v.dtype;
  const Shape rows{in.segments.tokens, in.v.columns()};
  expect("v", in.v, dtype, rows);
  expect_if_present("q", in.q, dtype, rows);
  expect_if_present("k", in.k, dtype, rows);
  if (in.skip.present()) expect_dtype_or_accumulator("skip", in.skip, dtype, {in.v.columns()});
}

inline void expect_gated_gradients(const GatedConvInputs& in, const GatedConvGradients& gradients) {
  const DType dtype = in.v.dtype;
  expect("d_y", gradients.d_y, dtype, in.v.shape);
  expect("d_v", gradients.d_v, dtype, in.v.shape);
  if (in.q.present()) expect("d_q", gradients.d_q, dtype, in.v.shape);
  if (in.k.present()) expect("d_k", gradients.d_k, dtype, in.v.shape);
  if (in.skip.present()) expect("d_skip", gradients.d_skip, accumulator_of(dtype), in.skip.shape);
}

/// The explicit filter [G, len] of a convolution, in the type of the activations or in its accumulator type.
inline void expect_taps(const GatedConvInputs& in, TensorView taps) {
  const std::int64_t D = in.v.columns(), G = taps.rows();
  expect_dtype_or_accumulator("taps", taps, in.v.dtype, {G, taps.columns()});
  ensure(taps.columns() > 0 && (G == 0 ? D == 0 : D % G == 0),
         "taps are {} for {} channels, expected [G, len] with G a divisor of the channels", taps.shape.to_string(), D);
}

}  // namespace causeway

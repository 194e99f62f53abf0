#pragma once

#include "kernels/causal_conv.hpp"
#include "kernels/expect.hpp"

/// Checks of causal_conv's arguments, for both devices.
namespace causeway {

template <class Args>  // CausalConvForward or CausalConvBackward
void expect_causal_conv_inputs(const Args& args) {
  const DType dtype = args.x.dtype;
  const std::int64_t T = args.segments.tokens, D = args.weight.rows(), W = args.weight.columns();
  expect("x", args.x, dtype, {T, D});
  ensure(args.activation != Activation::gelu, "causal_conv's activation is {}, expected none or silu",
         name_of(args.activation));
  expect("weight", args.weight, dtype, {D, W});
  expect_if_present("bias", args.bias, dtype, {D});
  expect_if_present("halo", args.halo, dtype, {W - 1, D});
  ensure(args.halo.present() || W == 1 || !args.segments.continues_from_left(),
         "a document begins before the run: expected a halo, but it is absent");
}

inline void expect_causal_conv(const CausalConvForward& args) {
  expect_causal_conv_inputs(args);
  expect("y", args.y, args.x.dtype, args.x.shape);
}

inline void expect_causal_conv(const CausalConvBackward& args) {
  expect_causal_conv_inputs(args);
  const DType dtype = args.x.dtype, accumulator = accumulator_of(dtype);
  expect("d_y", args.d_y, dtype, args.x.shape);
  expect("d_x", args.d_x, dtype, args.x.shape);
  expect_if_present("d_halo", args.d_halo, dtype, {args.weight.columns() - 1, args.weight.rows()});
  expect("d_weight", args.d_weight, accumulator, args.weight.shape);
  expect_if_present("d_bias", args.d_bias, accumulator, {args.weight.rows()});
  if (const auto& [a, b] = args.d_y_product; a.present()) {
    expect("d_y_product.a", a, dtype, {args.segments.tokens, b.rows()});
    expect("d_y_product.b", b, dtype, {a.columns(), args.weight.rows()});
  }
}

}  // namespace causeway

#pragma once

#include "kernels/blocked_conv.hpp"
#include "kernels/expect_gated_conv.hpp"

/// Checks of a blocked convolution's arguments, for both devices.
namespace causeway {

template <class Args>  // BlockedConvForward or BlockedConvBackward
void expect_blocked_conv_inputs(const Args& args) {
  const std::int64_t length = args.taps.columns();
  expect_gated_inputs(args.in);
  expect_taps(args.in, args.taps);
  ensure(args.block > 0, "block is {} tokens, expected at least 1", args.block);
  expect_if_present("halo", args.halo, args.in.v.dtype, {length - 1, args.in.v.columns()});
  ensure(args.halo.present() || length == 1 || !args.in.segments.continues_from_left(),
         "a document begins before the run: expected a halo, but it is absent");
}

inline void expect_blocked_conv(const BlockedConvForward& args) {
  expect_blocked_conv_inputs(args);
  expect("y", args.y, args.in.v.dtype, args.in.v.shape);
}

inline void expect_blocked_conv(const BlockedConvBackward& args) {
  expect_blocked_conv_inputs(args);
  const DType dtype = args.in.v.dtype;
  expect_gated_gradients(args.in, args.gradients);
  expect_if_present("d_halo", args.d_halo, dtype, {args.taps.columns() - 1, args.in.v.columns()});
  expect("d_taps", args.d_taps, accumulator_of(dtype), args.taps.shape);
}

}  // namespace causeway

#pragma once

#include "kernels/core/integer.hpp"
#include "kernels/expect_gated_conv.hpp"
#include "kernels/modal_conv.hpp"

/// Checks of a modal convolution's arguments, for both devices.
namespace causeway {

inline void expect_modal_inputs(const GatedConvInputs& in, TensorView residues, TensorView log_rates) {
  const DType accumulator = accumulator_of(in.v.dtype);
  const Shape matrix{in.v.columns(), log_rates.columns()};
  expect_gated_inputs(in);
  expect("log_rates", log_rates, accumulator, matrix);
  expect_if_present("residues", residues, accumulator, matrix);
}

inline void expect_modal_conv(const ModalConvForward& args) {
  const GatedConvInputs& in = args.in;
  const DType accumulator = accumulator_of(in.v.dtype);
  const std::int64_t D = in.v.columns(), M = args.log_rates.columns();
  expect_modal_inputs(in, args.residues, args.log_rates);
  expect_if_present("state_in", args.state_in, accumulator, {D, M});
  expect("y", args.y, in.v.dtype, in.v.shape);
  expect_if_present("states", args.states, accumulator, {ceil_div(in.segments.tokens, modal_conv_block), D, M});
  expect_if_present("state_out", args.state_out, accumulator, {D, M});
}

inline void expect_modal_conv(const ModalConvBackward& args) {
  const GatedConvInputs& in = args.in;
  const DType accumulator = accumulator_of(in.v.dtype);
  const std::int64_t D = in.v.columns(), M = args.log_rates.columns();
  expect_modal_inputs(in, args.residues, args.log_rates);
  expect_gated_gradients(in, args.gradients);
  expect_if_present("state_in", args.state_in, accumulator, {D, M});
  expect_if_present("states", args.states, accumulator, {ceil_div(in.segments.tokens, modal_conv_block), D, M});
  expect_if_present("adjoint_in", args.adjoint_in, accumulator, {D, M});
  expect("d_residues", args.d_residues, accumulator, {D, M});
  expect("d_log_rates", args.d_log_rates, accumulator, {D, M});
  expect_if_present("adjoint_out", args.adjoint_out, accumulator, {D, M});
}

inline void expect_modal_conv(const ModalConvSummary& args) {
  expect_modal_inputs(args.in, {}, args.log_rates);
  expect("state", args.state, args.log_rates.dtype, args.log_rates.shape);
}

inline void expect_modal_conv(const ModalConvAdjointSummary& args) {
  expect_modal_inputs(args.in, args.residues, args.log_rates);
  expect("residues", args.residues, args.log_rates.dtype, args.log_rates.shape);
  expect("d_y", args.d_y, args.in.v.dtype, args.in.v.shape);
  expect("adjoint", args.adjoint, args.log_rates.dtype, args.log_rates.shape);
}

inline void expect_modal_conv(const ModalConvFold& args) {
  expect("summary_state", args.summary_state, args.log_rates.dtype, args.log_rates.shape);
  expect("carry", args.carry, args.log_rates.dtype, args.log_rates.shape);
  ensure(args.tokens >= 0, "modal_conv_fold: {} tokens, expected at least 0", args.tokens);
}

}  // namespace causeway

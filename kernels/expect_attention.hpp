#pragma once

#include "kernels/attention.hpp"
#include "kernels/expect.hpp"

/// Checks of the arguments of attention, for both devices.
namespace causeway {

inline void expect_attention_inputs(const AttentionInputs& in) {
  const DType dtype = in.q.dtype;
  ensure(in.q.shape.rank() == 3, "q is {}, expected [queries, H, E]", in.q.shape.to_string());
  const std::int64_t H = in.q.shape[1], E = in.q.shape[2];
  expect("q", in.q, dtype, {in.segments.tokens, H, E});
  expect("k", in.k, dtype, {in.k.rows(), H, E});
  expect("v", in.v, dtype, in.k.shape);
}

inline void expect_attention(const AttentionForward& args) {
  expect_attention_inputs(args.in);
  const TensorView q = args.in.q;
  expect_dtype_or_accumulator("y", args.y, q.dtype, q.shape);
  expect("lse", args.lse, accumulator_of(q.dtype), {q.rows(), q.shape[1]});
}

inline void expect_attention(const AttentionDelta& args) {
  const TensorView d_y = args.d_y;
  expect_dtype_or_accumulator("y", args.y, d_y.dtype, d_y.shape);
  expect("delta", args.delta, accumulator_of(d_y.dtype), {d_y.rows(), d_y.shape[1]});
}

inline void expect_attention(const AttentionBackward& args) {
  const AttentionInputs& in = args.in;
  expect_attention_inputs(in);
  const DType dtype = in.q.dtype, wide = accumulator_of(dtype);
  expect("lse", args.lse, wide, {in.q.rows(), in.q.shape[1]});
  expect("delta", args.delta, wide, {in.q.rows(), in.q.shape[1]});
  expect("d_y", args.d_y, dtype, in.q.shape);
  const auto expect_gradient = [&](std::string_view name, TensorView gradient, const Shape& shape) {
    expect(name, gradient, !args.accumulate && gradient.dtype == dtype ? dtype : wide, shape);
  };
  expect_gradient("d_q", args.d_q, in.q.shape);
  expect_gradient("d_k", args.d_k, in.k.shape);
  expect_gradient("d_v", args.d_v, in.v.shape);
}

}  // namespace causeway

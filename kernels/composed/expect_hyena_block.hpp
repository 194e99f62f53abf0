#pragma once

#include "kernels/expect.hpp"
#include "kernels/hyena_block.hpp"

/// Checks of hyena_block's arguments, for both devices. Filter and gates are checked by the kernels that it calls.
namespace causeway {

inline void expect_hyena_block(const HyenaBlockInputs& in) {
  const DType dtype = in.q.dtype;
  const std::int64_t D = in.q.columns(), reach = block_reach(in);
  const Shape rows{in.segments.tokens, D};
  expect("q", in.q, dtype, rows);
  expect("k", in.k, dtype, rows);
  expect("v", in.v, dtype, rows);
  expect("featurizer", in.featurizer, dtype, {3 * D, in.featurizer.columns()});
  ensure(in.featurizer.columns() > 0, "featurizer is {}, expected at least one column",
         in.featurizer.shape.to_string());
  ensure(in.taps.present() != in.residues.present() && in.residues.present() == in.log_rates.present(),
         "hyena_block has taps {}, residues {} and log_rates {}; expected taps, or residues and log_rates",
         in.taps.shape.to_string(), in.residues.shape.to_string(), in.log_rates.shape.to_string());
  expect_if_present("halo", in.halo, dtype, {reach, 3 * D});
  ensure(in.halo.present() || reach == 0 || !in.segments.continues_from_left(),
         "a document begins before the run: expected a halo, but it is absent");
}

inline void expect_hyena_block(const HyenaBlockForward& args) {
  expect_hyena_block(args.in);
  expect("y", args.y, args.in.q.dtype, args.in.q.shape);
}

inline void expect_hyena_block(const HyenaBlockBackward& args) {
  expect_hyena_block(args.in);
  const DType dtype = args.in.q.dtype;
  expect("d_y", args.d_y, dtype, args.in.q.shape);
  expect("d_q", args.d_q, dtype, args.in.q.shape);
  expect("d_k", args.d_k, dtype, args.in.q.shape);
  expect("d_v", args.d_v, dtype, args.in.q.shape);
  expect_if_present("d_halo", args.d_halo, dtype, {block_reach(args.in), 3 * args.in.q.columns()});
  expect("d_featurizer", args.d_featurizer, accumulator_of(dtype), args.in.featurizer.shape);
}

}  // namespace causeway

#pragma once

#include "kernels/adamw.hpp"
#include "kernels/expect.hpp"

namespace causeway {

/// Checks the arguments of a step of AdamW, for both devices.
inline void expect_adamw(const AdamW& args) {
  const DType dtype = args.master.dtype, weights = args.weights.present() ? args.weights.dtype : dtype;
  ensure(args.step >= 1 && args.gradient.dtype == dtype && args.exp_avg.dtype == dtype &&
             args.exp_avg_sq.dtype == dtype && accumulator_of(dtype) == dtype && accumulator_of(weights) == dtype,
         "adamw: step {}, gradient {}, master {}, moments {} and {}, weights {}; expected a step of at least 1 and one "
         "accumulator type",
         args.step, name_of(args.gradient.dtype), name_of(dtype), name_of(args.exp_avg.dtype),
         name_of(args.exp_avg_sq.dtype), name_of(weights));
}

}  // namespace causeway

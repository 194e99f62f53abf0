#pragma once

#include "kernels/expect.hpp"
#include "kernels/fp8.hpp"

namespace causeway {

/// Checks the arguments of round_to_fp8, for both devices.
inline void expect_round_to_fp8(const RoundToFp8& args) {
  ensure(args.x.shape.rank() == 2 && args.y.shape == args.x.shape && args.y.dtype == args.x.dtype,
         "round_to_fp8: x is {} {}, y is {} {}, expected two equal matrices", name_of(args.x.dtype),
         args.x.shape.to_string(), name_of(args.y.dtype), args.y.shape.to_string());
}

}  // namespace causeway

#pragma once

#include "kernels/expect.hpp"
#include "kernels/gemm.hpp"

namespace causeway {

/// Checks the arguments of a matrix product, for both devices. Returns the inner extent.
inline std::int64_t expect_gemm(const Gemm& args) {
  const TensorView a = args.a, b = args.b, c = args.c;
  const std::int64_t k = args.transpose_a ? a.rows() : a.columns();
  ensure((args.transpose_a ? a.columns() : a.rows()) == c.rows() && (args.transpose_b ? b.columns() : b.rows()) == k &&
             (args.transpose_b ? b.rows() : b.columns()) == c.columns(),
         "gemm: shapes {}{} and {}{} do not fit the result {}", a.shape.to_string(), args.transpose_a ? "ᵀ" : "",
         b.shape.to_string(), args.transpose_b ? "ᵀ" : "", c.shape.to_string());
  ensure(a.dtype == b.dtype && (c.dtype == a.dtype || c.dtype == accumulator_of(a.dtype)),
         "gemm: a is {}, b is {}, c is {}; expected a and b of one type, c of that or of its accumulator type",
         name_of(a.dtype), name_of(b.dtype), name_of(c.dtype));
  return k;
}

}  // namespace causeway

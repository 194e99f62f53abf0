#pragma once

#include "kernels/expect.hpp"
#include "kernels/fp8/fp8.hpp"

namespace causeway {

/// Checks the arguments of round_to_fp8, for both devices.
inline void expect_round_to_fp8(const RoundToFp8& args) {
  ensure(args.x.shape.rank() == 2 && args.y.shape == args.x.shape && args.y.dtype == args.x.dtype,
         "round_to_fp8: x is {} {}, y is {} {}, expected two equal matrices", name_of(args.x.dtype),
         args.x.shape.to_string(), name_of(args.y.dtype), args.y.shape.to_string());
}

/// The same for quantise_to_fp8.
inline void expect_quantise_to_fp8(const QuantiseToFp8& args) {
  const TensorView x = args.x, codes = args.codes, scales = args.scales;
  ensure(x.shape.rank() == 2 && x.dtype == DType::bf16, "quantise_to_fp8: x is {} {}, expected a matrix in bf16",
         name_of(x.dtype), x.shape.to_string());
  const std::int64_t rows = args.by_columns ? x.columns() : x.rows(),
                     columns = args.by_columns ? x.rows() : x.columns();
  ensure(codes.dtype == DType::u8 && codes.shape.rank() == 2 && codes.dense() && codes.rows() == rows &&
             (args.by_columns ? codes.columns() >= columns : codes.columns() == columns),
         "quantise_to_fp8: x is {}, its codes{} are {} {}", x.shape.to_string(), args.by_columns ? " by columns" : "",
         name_of(codes.dtype), codes.shape.to_string());
  ensure(scales.dtype == DType::f32 && scales.dense() && scales.shape == Shape({rows}),
         "quantise_to_fp8: scales are {} {}, expected f32 [{}]", name_of(scales.dtype), scales.shape.to_string(), rows);
}

/// Throws unless x is absent or is the rows of a matrix of this shape, for kernels that also write codes of a result.
inline void expect_codes_if_present(std::string_view name, const Fp8Matrix& x, DType dtype, Shape shape) {
  if (!x.codes.present()) return;
  ensure(dtype == DType::bf16, "{} has 8-bit floats, but is {}, expected bf16", name, name_of(dtype));
  expect(name, x.codes, DType::u8, shape);
  expect(name, x.scales, DType::f32, {shape[0]});
  ensure(x.codes.dense() && x.scales.dense(), "{}'s codes are not dense", name);
}

/// The same for transpose_fp8.
inline void expect_transpose_fp8(const TransposeFp8& args) {
  const TensorView from = args.x.codes, to = args.codes;
  ensure(from.dtype == DType::u8 && from.shape.rank() == 2 && from.dense() && args.x.scales.dtype == DType::f32 &&
             args.x.scales.shape == Shape({from.rows()}),
         "transpose_fp8: x has codes {} {}, expected those of a matrix by rows", name_of(from.dtype),
         from.shape.to_string());
  ensure(args.x.format == Fp8Format::e5m2 || !args.others.present(), "transpose_fp8: x is in E4M3, but has factors");
  expect_if_present("transpose_fp8's other scales", args.others, DType::f32, {from.rows()});
  ensure(to.dtype == DType::u8 && to.shape.rank() == 2 && to.dense() && to.rows() == from.columns() &&
             to.columns() >= from.rows() && args.scales.dtype == DType::f32 &&
             args.scales.shape == Shape({from.columns()}),
         "transpose_fp8: codes of {} are {} {}, and scales {}", from.shape.to_string(), name_of(to.dtype),
         to.shape.to_string(), args.scales.shape.to_string());
}

/// The same for fp8_gemm. Returns the inner extent.
inline std::int64_t expect_fp8_gemm(const Fp8Gemm& args) {
  const auto expect_matrix = [](const Fp8Matrix& x, std::int64_t rows, std::int64_t columns, const char* name) {
    ensure(x.codes.dtype == DType::u8 && x.codes.shape == Shape({rows, columns}) && x.codes.dense() &&
               x.scales.dtype == DType::f32 && x.scales.shape == Shape({rows}) && x.scales.dense(),
           "fp8_gemm: {} has codes {} {} and scales {} {}, expected u8 [{}, {}] and f32 [{}]", name,
           name_of(x.codes.dtype), x.codes.shape.to_string(), name_of(x.scales.dtype), x.scales.shape.to_string(), rows,
           columns, rows);
  };
  const std::int64_t k = args.a.codes.columns();
  expect_matrix(args.a, args.c.rows(), k, "a");
  expect_matrix(args.b, args.c.columns(), k, "b");
  ensure(args.c.dtype == DType::bf16 || args.c.dtype == DType::f32, "fp8_gemm: c is {}, expected bf16 or f32",
         name_of(args.c.dtype));
  return k;
}

}  // namespace causeway

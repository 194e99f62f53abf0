#pragma once

#include "kernels/core/integer.hpp"
#include "kernels/fp8/fp8.hpp"

namespace causeway {

/// A matrix in 8-bit floats with memory of its own.
struct Fp8Copy {
  Tensor codes, scales;
  Fp8Format format = Fp8Format::e4m3;

  /// None.
  Fp8Copy() = default;
  /// Memory for a matrix [rows, columns] that a kernel writes.
  Fp8Copy(const Stream& stream, const Shape& shape, Fp8Format of)
      : codes(stream, DType::u8, shape), scales(stream, DType::f32, {shape[0]}), format(of) {}
  /// x by rows.
  static Fp8Copy by_rows(const Stream& stream, TensorView x, Fp8Format of) {
    Fp8Copy copy(stream, x.shape, of);
    quantise_to_fp8(stream, {.x = x, .format = of, .codes = copy.codes, .scales = copy.scales});
    return copy;
  }
  /// x by columns, as the transpose.
  static Fp8Copy by_columns(const Stream& stream, TensorView x, Fp8Format of) {
    Fp8Copy copy(stream, transposed(x.shape), of);
    quantise_to_fp8(stream, {.x = x, .format = of, .by_columns = true, .codes = copy.codes, .scales = copy.scales});
    return copy;
  }
  /// x's codes transposed, as TransposeFp8 describes it.
  static Fp8Copy transpose_of(const Stream& stream, const Fp8Matrix& x, TensorView others = {}) {
    Fp8Copy copy(stream, transposed(x.codes.shape), x.format);
    transpose_fp8(stream, {.x = x, .others = others, .codes = copy.codes, .scales = copy.scales});
    return copy;
  }

  bool present() const { return codes.present(); }
  operator Fp8Matrix() const { return {.codes = codes, .scales = scales, .format = format}; }  // NOLINT

 private:
  /// Rows of the transpose are filled with zeros to a multiple of 16 elements.
  static Shape transposed(const Shape& shape) { return {shape[1], round_up(shape[0], 16)}; }
};

}  // namespace causeway

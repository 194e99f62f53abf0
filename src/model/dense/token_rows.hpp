#pragma once

#include <string>
#include <utility>

#include "parallel/saved.hpp"
#include "src/model/dense/fp8_copy.hpp"
#include "src/model/parameters/parameter_layout.hpp"

namespace causeway {

/// Whether the device multiplies 8-bit floats themselves in all products with a weight: forward, for d_x, and for its
/// gradient (whose memory is aligned, if its extents are multiples of 16). Then nobody needs the rows that it
/// multiplies in another type.
inline bool multiplies_codes(const Stream& stream, const Parameter& weight) {
  const auto row_of = [](std::int64_t columns) { return view_of(nullptr, DType::bf16, {1, columns}); };
  const Shape& shape = weight.spec.shape;
  return weight.fp8 && weight.weight.dtype == DType::bf16 &&
         has_fp8_gemm(stream.device(), shape[1], row_of(shape[0])) &&
         has_fp8_gemm(stream.device(), shape[0], row_of(shape[1]));
}

/// Rows of tokens as products with weights read them: values in the compute type, their 8-bit floats, or both.
struct RowsView {
  TensorView values;
  Fp8Matrix codes;

  RowsView(TensorView of) : values(of) {}            // NOLINT: most rows are values only
  RowsView(const Tensor& of) : values(of.view()) {}  // NOLINT
  RowsView(TensorView of, const Fp8Matrix& its_codes) : values(of), codes(its_codes) {}
  RowsView slice_rows(std::int64_t begin, std::int64_t count) const {
    RowsView rows(values.present() ? values.slice_rows(begin, count) : values);
    if (codes.codes.present())
      rows.codes = {codes.codes.slice_rows(begin, count), codes.scales.slice_rows(begin, count), codes.format};
    return rows;
  }
  const Shape& shape() const { return values.present() ? values.shape : codes.codes.shape; }
  std::int64_t rows() const { return shape()[0]; }
  DType dtype() const { return values.present() ? values.dtype : DType::bf16; }
};

/// The same with memory of its own.
struct TokenRows {
  Tensor values;
  Fp8Copy codes;

  /// Memory for rows that a kernel writes and products with `weight` read: codes, if the device multiplies them.
  static TokenRows for_products(const Stream& stream, const Parameter& weight, DType dtype, const Shape& shape) {
    if (multiplies_codes(stream, weight)) return {.values = {}, .codes = {stream, shape, Fp8Format::e4m3}};
    return {.values = Tensor(stream, dtype, shape), .codes = {}};
  }
  /// Values that exist, for products with `weight`: codes in their place, if the device multiplies them.
  static TokenRows of(const Stream& stream, const Parameter& weight, Tensor values) {
    if (!multiplies_codes(stream, weight)) return {.values = std::move(values), .codes = {}};
    return {.values = {}, .codes = Fp8Copy::by_rows(stream, values, Fp8Format::e4m3)};
  }
  RowsView slice_rows(std::int64_t begin, std::int64_t count) const {
    return RowsView(values, codes).slice_rows(begin, count);
  }
  void put_into(Saved& saved, const std::string& slot) && {
    saved.put(slot, std::move(values));
    saved.put(slot + " codes", std::move(codes.codes));
    saved.put(slot + " scales", std::move(codes.scales));
  }
  static TokenRows take_from(Saved& saved, const std::string& slot) {
    TokenRows rows{.values = saved.take(slot), .codes = {}};
    rows.codes.codes = saved.take(slot + " codes");
    rows.codes.scales = saved.take(slot + " scales");
    return rows;
  }
  operator RowsView() const { return {values, codes}; }  // NOLINT
};

}  // namespace causeway

#pragma once

#include <cstdint>
#include <span>

#include "kernels/core/kernel.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// `count` rows, from row `from` of x to row `to` of y.
struct RowRange {
  std::int64_t from = 0, to = 0, count = 0;
  bool operator==(const RowRange&) const = default;
};

/// y[to+i] = x[from+i] for each range, or += with `accumulate`, one range after the other. x and y have one dtype and
/// rows of one length; row strides are free. Throws Error(internal) if they do not fit or a range leaves a tensor.
struct CopyRows {
  TensorView x;
  std::span<const RowRange> ranges;
  bool accumulate = false;
  TensorView y;
};
extern const Kernel<CopyRows> copy_rows;

/// y[c,r] = x[r,c], or += with `accumulate`, converted to y's dtype. Row strides are free. Throws Error(internal) if
/// the shapes do not fit.
struct Transpose {
  TensorView x;  ///< [rows, columns]
  bool accumulate = false;
  TensorView y;  ///< [columns, rows]
};
extern const Kernel<Transpose> transpose;

}  // namespace causeway

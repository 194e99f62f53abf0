#include <algorithm>

#include "kernels/core/error.hpp"
#include "kernels/reorder.hpp"

namespace causeway::cpu {
namespace {

constexpr std::int64_t side = 32;  // of a square block of x and y: both fit the L1 cache

template <class X, class Y>
void transpose_blocks(const Transpose& args) {
  using Wide = Accumulator<Y>;
  const std::int64_t rows = args.x.rows(), columns = args.x.columns();
#pragma omp parallel for schedule(static) collapse(2)
  for (std::int64_t row = 0; row < rows; row += side)
    for (std::int64_t column = 0; column < columns; column += side)
      for (std::int64_t c = column; c < std::min(column + side, columns); ++c) {
        Y* const y = args.y.row<Y>(c);
        for (std::int64_t r = row; r < std::min(row + side, rows); ++r) {
          const Wide x = static_cast<Wide>(args.x.row<const X>(r)[c]);
          y[r] = static_cast<Y>(args.accumulate ? static_cast<Wide>(y[r]) + x : x);
        }
      }
}

}  // namespace

void transpose(const Stream&, const Transpose& args) {
  ensure(args.x.shape.rank() == 2 && args.y.shape == Shape({args.x.columns(), args.x.rows()}),
         "transpose: x is {}, y is {}, expected [rows, columns] and [columns, rows]", args.x.shape.to_string(),
         args.y.shape.to_string());
  dispatch(args.x.dtype, [&]<class X> { dispatch(args.y.dtype, [&]<class Y> { transpose_blocks<X, Y>(args); }); });
}

}  // namespace causeway::cpu

#include "kernels/reorder.hpp"
#include "kernels/core/integer.hpp"

#include <cstring>

#include "kernels/cpu/pointwise/elementwise.hpp"

namespace causeway::cpu {

void copy_rows(const Stream&, const CopyRows& args) {
  ensure(args.x.dtype == args.y.dtype && args.x.columns() == args.y.columns(),
         "copy_rows: x is {} {}, y is {} {}, expected one type and equally long rows", name_of(args.x.dtype),
         args.x.shape.to_string(), name_of(args.y.dtype), args.y.shape.to_string());
  // One range after the other: if several add to the same row, their order determines the last bit.
  for (const RowRange& range : args.ranges) {
    const TensorView x = args.x.slice_rows(range.from, range.count), y = args.y.slice_rows(range.to, range.count);
    if (x.size() == 0) continue;
    if (args.accumulate) {
      dispatch(x.dtype, [&]<class T>() {
        using Wide = Accumulator<T>;
        // As matrices: the rows of x and y have one length, but may differ in shape.
        const TensorView from = {x.data, x.dtype, {x.rows(), x.columns()}, x.row_stride},
                         to = {y.data, y.dtype, {y.rows(), y.columns()}, y.row_stride};
        for_each_span({from, to}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
          const T* add = from.row<T>(row) + column;
          T* sum = to.row<T>(row) + column;
#pragma omp simd
          for (std::int64_t i = 0; i < count; ++i) sum[i] = static_cast<Wide>(sum[i]) + static_cast<Wide>(add[i]);
        });
      });
    } else {
      // Dense rows are copied as one block of bytes, a piece at a time.
      constexpr std::int64_t piece = 1 << 18;
      const bool dense = x.dense() && y.dense();
      const std::int64_t item = size_of(x.dtype), length = dense ? piece : x.columns() * item,
                         x_step = dense ? piece : x.row_stride * item, y_step = dense ? piece : y.row_stride * item,
                         count = dense ? ceil_div(x.bytes(), piece) : x.rows();
#pragma omp parallel for schedule(static) if (x.bytes() > 4 * piece)
      for (std::int64_t i = 0; i < count; ++i)
        std::memcpy(static_cast<std::byte*>(y.data) + i * y_step, static_cast<const std::byte*>(x.data) + i * x_step,
                    static_cast<std::size_t>(dense ? std::min(length, x.bytes() - i * piece) : length));
    }
  }
}

}  // namespace causeway::cpu

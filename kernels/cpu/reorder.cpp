#include "kernels/reorder.hpp"

#include <cstring>

#include "kernels/cpu/elementwise.hpp"

namespace causeway::cpu {

void copy_rows(const Stream& stream, const CopyRows& args) {
  ensure(args.x.dtype == args.y.dtype && args.x.columns() == args.y.columns(), "copy_rows from {} of {} to {} of {}", args.x.shape.to_string(),
         name_of(args.x.dtype), args.y.shape.to_string(), name_of(args.y.dtype));
  // One range after the other: several may add to the same row, and then their order decides the last bit.
  for (const RowRange& range : args.ranges) {
    const TensorView x = args.x.slice_rows(range.from, range.count), y = args.y.slice_rows(range.to, range.count);
    if (x.size() == 0) continue;
    if (args.accumulate) {
      dispatch(x.dtype, [&]<class T>() {
        using Wide = Accumulator<T>;
        // The ranges' own shape: x and y may differ in how their rows are shaped, not in how long they are.
        const TensorView from = {x.data, x.dtype, {x.rows(), x.columns()}, x.row_stride}, to = {y.data, y.dtype, {y.rows(), y.columns()}, y.row_stride};
        for_each_run({from, to}, [&](std::int64_t row, std::int64_t column, std::int64_t count) {
          const T* add = from.row<T>(row) + column;
          T* sum = to.row<T>(row) + column;
#pragma omp simd
          for (std::int64_t i = 0; i < count; ++i) sum[i] = static_cast<Wide>(sum[i]) + static_cast<Wide>(add[i]);
        });
      });
    } else if (x.dense() && y.dense()) {
      stream.copy(y.data, x.data, x.bytes());
    } else {
      const std::int64_t row_bytes = x.columns() * size_of(x.dtype);
#pragma omp parallel for schedule(static) if (x.size() > 4 * run_length)
      for (std::int64_t row = 0; row < x.rows(); ++row)
        std::memcpy(static_cast<std::byte*>(y.data) + row * y.row_stride * size_of(y.dtype),
                    static_cast<const std::byte*>(x.data) + row * x.row_stride * size_of(x.dtype), static_cast<std::size_t>(row_bytes));
    }
  }
}

}  // namespace causeway::cpu

#include "kernels/reorder.hpp"

#include <algorithm>
#include <limits>

#include "kernels/cuda/device/elementwise.cuh"

namespace causeway::cuda {
namespace {

/// y += x.
template <class T>
struct AddBody {
  static constexpr int width = packet_width<T>;
  Rows<T> x, y;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const auto from = x.template load<V>(row, column);
    auto to = y.template load<V>(row, column);
#pragma unroll
    for (int v = 0; v < V; ++v) to.at[v] = narrowed<T>(widened(to.at[v]) + widened(from.at[v]));
    y.template store<V>(row, column, to);
  }
};

/// y = x.
template <class T>
struct CopyBody {
  static constexpr int width = packet_width<T>;
  Rows<T> x, y;

  template <int V>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    y.template store<V>(row, column, x.template load<V>(row, column));
  }
};

/// y = x for tensors with equal rows and columns.
void copy(const Stream& stream, TensorView x, TensorView y) {
  const std::int64_t item = size_of(x.dtype), max_pitch = std::numeric_limits<std::int32_t>::max();
  if (x.rows() == 1 || (x.dense() && y.dense())) return stream.copy(y.data, x.data, x.bytes());
  if (std::max(x.row_stride, y.row_stride) * item > max_pitch)  // cudaMemcpy2D refuses it
    return dispatch(x.dtype, [&]<class T>() { for_each_element(stream, {x, y}, CopyBody<T>{Rows<T>(x), Rows<T>(y)}); });
  cuda_check(cudaMemcpy2DAsync(y.data, static_cast<std::size_t>(y.row_stride * item), x.data,
                               static_cast<std::size_t>(x.row_stride * item),
                               static_cast<std::size_t>(x.columns() * item), static_cast<std::size_t>(x.rows()),
                               cudaMemcpyDeviceToDevice, native_of(stream)));
}

}  // namespace

void copy_rows(const Stream& stream, const CopyRows& args) {
  ensure(args.x.dtype == args.y.dtype && args.x.columns() == args.y.columns(),
         "copy_rows: x is {} {}, y is {} {}, expected one type and equally long rows", name_of(args.x.dtype),
         args.x.shape.to_string(), name_of(args.y.dtype), args.y.shape.to_string());
  // One range after the other, as on the CPU: several ranges may add to the same row, and then the order determines the
  // last bit.
  for (const RowRange& range : args.ranges) {
    TensorView x = args.x.slice_rows(range.from, range.count), y = args.y.slice_rows(range.to, range.count);
    if (x.size() == 0) continue;
    // The rows have the same number of elements, but may have different shapes.
    x.shape = y.shape = {x.rows(), x.columns()};
    if (args.accumulate)
      dispatch(x.dtype, [&]<class T>() { for_each_element(stream, {x, y}, AddBody<T>{Rows<T>(x), Rows<T>(y)}); });
    else
      copy(stream, x, y);
  }
}

}  // namespace causeway::cuda

#include "kernels/cuda/blocked_conv/blocked_conv.cuh"

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/expect_blocked_conv.hpp"

namespace causeway::cuda {
namespace {

/// add_filter_parts.
/// block: 8 warps
/// warp: one tap of one group; after these, 32 channels of d_skip
/// thread: every 32nd of the tap's partial sums, of which lane 0 then has the total; or one channel of d_skip
/// registers: one float64 sum
template <class R>
__global__ void __launch_bounds__(256)
    add_filter_parts_kernel(FilterParts<R> from, std::int64_t groups, std::int64_t length, R* d_taps,
                            std::int64_t taps_stride, R* d_skip, std::int64_t skip_stride, std::int64_t channels) {
  const std::int64_t item = std::int64_t{blockIdx.x} * 8 + threadIdx.y;
  const int lane = static_cast<int>(threadIdx.x);
  if (item < groups * length) {
    const std::int64_t group = item / length, lag = item % length, group_columns = from.columns / groups;
    double sum = 0;
    for (std::int64_t i = lane; i < from.parts * group_columns; i += 32) {
      const std::int64_t part = i / group_columns, column = group * group_columns + i % group_columns;
      sum += static_cast<double>(from.partial[(part * length + lag) * from.columns + column]);
    }
    sum = reduce_lanes(sum);
    if (lane == 0) d_taps[group * taps_stride + lag] += static_cast<R>(sum);
    return;
  }
  const std::int64_t channel = (item - groups * length) * 32 + lane;
  if (d_skip == nullptr || channel >= channels) return;
  double sum = 0;
  for (std::int64_t part = 0; part < from.parts; ++part)
    sum += static_cast<double>(from.skips[part * from.skip_step + channel]);
  d_skip[channel * skip_stride] += static_cast<R>(sum);
}

}  // namespace

template <class R>
void add_filter_parts(const Stream& stream, const FilterParts<R>& from, TensorView d_taps, TensorView d_skip) {
  const std::int64_t channels = d_skip.present() ? d_skip.rows() : 0, groups = d_taps.rows(), length = d_taps.columns();
  add_filter_parts_kernel<R>
      <<<grid_of(groups * length + ceil_div(channels, 32), 8), dim3(32, 8), 0, native_of(stream)>>>(
          from, groups, length, static_cast<R*>(d_taps.data), d_taps.row_stride,
          d_skip.present() ? static_cast<R*>(d_skip.data) : nullptr, d_skip.row_stride, channels);
  cuda_check(cudaGetLastError());
}
template void add_filter_parts(const Stream&, const FilterParts<float>&, TensorView, TensorView);
template void add_filter_parts(const Stream&, const FilterParts<double>&, TensorView, TensorView);

void blocked_conv_forward(const Stream& stream, const BlockedConvForward& args) {
  expect_blocked_conv(args);
  if (args.in.v.size() == 0) return;
  if (suits_tensor_cores(args)) return tensor_core_conv_forward(stream, args);
  dispatch(args.in.v.dtype, [&]<class Type> { direct_conv_forward<Type>(stream, args); });
}

void blocked_conv_backward(const Stream& stream, const BlockedConvBackward& args) {
  expect_blocked_conv(args);
  if (args.in.v.columns() == 0) return;
  if (suits_tensor_cores(args)) return tensor_core_conv_backward(stream, args);
  dispatch(args.in.v.dtype, [&]<class Type> { direct_conv_backward<Type>(stream, args); });
}

}  // namespace causeway::cuda

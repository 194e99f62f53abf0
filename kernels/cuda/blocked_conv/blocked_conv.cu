#include "kernels/cuda/blocked_conv/blocked_conv.cuh"

#include <type_traits>

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/plain_block.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/expect_blocked_conv.hpp"
#include "kernels/hyena_block.hpp"

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

namespace {

/// Up to here hyena_block's backward by multiply-adds, in one pass, is faster than that on tensor cores, in two.
constexpr std::int64_t most_taps_of_one_pass = 7;

/// Whether the halo has rows that the run's first document reaches.
template <class Args>
bool reads_halo(const Args& args) {
  return args.halo.present() && args.halo.rows() > 0 && args.in.segments.continues_from_left();
}

/// Whether a call has all that a hyena_block has whose featurizer is the identity.
template <class Args>
bool has_block_form(const Args& args) {
  return args.in.q.present() && args.in.k.present() && args.taps.rows() > 0;
}

/// The rows before the run, and their gradient, as a block has them. The halo's rows are k⊙v: they are the block's k,
/// of which v is 1. The block does not use q there.
struct BlockHalo {
  Tensor rows, gradient;

  template <class Args>
  BlockHalo(const Stream& stream, const Args& args) {
    if (!reads_halo(args)) return;
    const std::int64_t D = args.halo.columns();
    rows = Tensor::zeros(stream, args.halo.dtype, {args.halo.rows(), 3 * D});
    scale(stream, {.x = args.halo, .y = rows.view().slice_columns(D, D)});
    fill(stream, {.value = 1, .y = rows.view().slice_columns(2 * D, D)});
    if constexpr (std::is_same_v<Args, BlockedConvBackward>)
      gradient = Tensor(stream, args.halo.dtype, rows.view().shape);
  }
  void write(const Stream& stream, TensorView d_halo) const {
    if (!d_halo.present() || d_halo.rows() == 0) return;
    if (!gradient.present()) return fill(stream, {.value = 0, .y = d_halo});
    scale(stream, {.x = gradient.view().slice_columns(d_halo.columns(), d_halo.columns()), .y = d_halo});
  }
};

/// The call as a block: one tap, which is 1, for each channel of q, k and v.
HyenaBlockInputs block_of(const GatedConvInputs& in, TensorView taps, TensorView ones, const BlockHalo& halo) {
  return {.q = in.q,
          .k = in.k,
          .v = in.v,
          .halo = halo.rows,
          .featurizer = ones,
          .skip = in.skip,
          .taps = taps,
          .segments = in.segments};
}
HyenaBlockForward block_of(const BlockedConvForward& args, TensorView ones, const BlockHalo& halo) {
  return {.in = block_of(args.in, args.taps, ones, halo), .y = args.y};
}
HyenaBlockBackward block_of(const BlockedConvBackward& args, TensorView ones, TensorView d_ones,
                            const BlockHalo& halo) {
  const GatedConvGradients& g = args.gradients;
  return {.in = block_of(args.in, args.taps, ones, halo),
          .d_y = g.d_y,
          .d_q = g.d_q,
          .d_k = g.d_k,
          .d_v = g.d_v,
          .d_halo = halo.gradient,
          .d_featurizer = d_ones,
          .d_skip = g.d_skip,
          .d_taps = args.d_taps};
}

/// A call to ask about, without rows before the run and with a featurizer of which nothing reads the elements.
HyenaBlockForward block_to_ask(const BlockedConvForward& args) {
  HyenaBlockForward block{.in = {.q = args.in.q, .k = args.in.k, .v = args.in.v, .taps = args.taps}, .y = args.y};
  block.in.featurizer = view_of(nullptr, args.in.v.dtype, {3 * args.in.v.columns(), 1});
  return block;
}
HyenaBlockBackward block_to_ask(const BlockedConvBackward& args, bool plain) {
  const GatedConvGradients& g = args.gradients;
  HyenaBlockBackward block{.in = {.q = args.in.q, .k = args.in.k, .v = args.in.v, .taps = args.taps},
                           .d_y = g.d_y,
                           .d_q = g.d_q,
                           .d_k = g.d_k,
                           .d_v = g.d_v};
  if (!plain) block.in.featurizer = view_of(nullptr, args.in.v.dtype, {3 * args.in.v.columns(), 1});
  return block;
}

bool suits_block(const BlockedConvForward& args) {
  return has_block_form(args) && hyena_block_is_fused(Device::cuda, block_to_ask(args));
}
bool suits_block(const BlockedConvBackward& args) {
  return has_block_form(args) && hyena_block_is_fused(Device::cuda, block_to_ask(args, false));
}
bool is_plain_block(const BlockedConvBackward& args) {
  return has_block_form(args) && suits_plain_block(block_to_ask(args, true));
}
Tensor ones(const Stream& stream, const GatedConvInputs& in) {
  Tensor taps(stream, in.v.dtype, {3 * in.v.columns(), 1});
  fill(stream, {.value = 1, .y = taps});
  return taps;
}

}  // namespace

void blocked_conv_forward(const Stream& stream, const BlockedConvForward& args) {
  expect_blocked_conv(args);
  if (args.in.v.size() == 0) return;
  if (suits_tensor_cores(args)) return tensor_core_conv_forward(stream, args);
  if (suits_block(args))
    return hyena_block_forward(stream, block_of(args, ones(stream, args.in), BlockHalo(stream, args)));
  dispatch(args.in.v.dtype, [&]<class Type> { direct_conv_forward<Type>(stream, args); });
}

void blocked_conv_backward(const Stream& stream, const BlockedConvBackward& args) {
  expect_blocked_conv(args);
  if (args.in.v.columns() == 0) return;
  if (is_plain_block(args)) {
    const BlockHalo halo(stream, args);
    plain_block_backward(stream, block_of(args, {}, {}, halo));
    return halo.write(stream, args.d_halo);
  }
  const bool tensor_cores = suits_tensor_cores(args);
  if ((!tensor_cores || args.taps.columns() <= most_taps_of_one_pass) && suits_block(args)) {
    const Tensor d_ones = Tensor::zeros(stream, DType::f32, {3 * args.in.v.columns(), 1});
    const BlockHalo halo(stream, args);
    hyena_block_backward(stream, block_of(args, ones(stream, args.in), d_ones, halo));
    return halo.write(stream, args.d_halo);
  }
  if (tensor_cores) return tensor_core_conv_backward(stream, args);
  dispatch(args.in.v.dtype, [&]<class Type> { direct_conv_backward<Type>(stream, args); });
}

}  // namespace causeway::cuda

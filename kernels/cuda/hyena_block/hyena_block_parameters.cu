#include "kernels/cuda/hyena_block/hyena_block_parameters.cuh"

#include "kernels/cuda/hyena_block/hyena_block_launch.cuh"
#include "kernels/cuda/hyena_block/hyena_block_mr.cuh"

namespace causeway::cuda::fused_block {
namespace {

/// block: 8 warps
/// warp: one tap of one group, whose channels and parts are divided among the lanes; after these, 32 channels of one
/// tap of the featurizer or of skip
/// registers: one float64 sum
__global__ void __launch_bounds__(256) add_parameters_kernel(const __grid_constant__ ParameterSums sums) {
  const BlockFilter& filter = sums.filter;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t warp = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32,
                     group_taps = sums.d_taps.data != nullptr ? filter.groups * filter.length : 0;
  if (warp < group_taps) {
    const std::int64_t group = warp / filter.length, width = filter.channels / filter.groups;
    const int tap = static_cast<int>(warp % filter.length);
    double total = 0;
    const int across = width >= 32 ? 32 : width >= 16 ? 16 : width >= 8 ? 8 : 1;  // lanes across the channels
    for (std::int64_t c = lane % across; c < width; c += across)
      total += sums.sum(group * width + c, 3 * featurizer_taps + tap, lane / across, 32 / across);
    total = sum_over_lanes(total);
    if (lane == 0) sums.d_taps(group, tap) += static_cast<float>(total);
    return;
  }
  const std::int64_t blocks_of_32 = (filter.channels + 31) / 32, item = (warp - group_taps) / blocks_of_32,
                     channel = (warp - group_taps) % blocks_of_32 * 32 + lane;
  if (channel >= filter.channels) return;
  if (item < 3 * filter.width) {
    const std::int64_t input = item / filter.width, lag = item % filter.width;
    sums.d_featurizer(input * filter.channels + channel, filter.width - 1 - lag) +=
        static_cast<float>(sums.sum(channel, static_cast<int>(input * featurizer_taps + lag)));
  } else if (item == 3 * filter.width && sums.d_skip.data != nullptr) {
    sums.d_skip(channel, 0) += static_cast<float>(sums.sum(channel, 3 * featurizer_taps));
  }
}

struct LagArgs {
  ParameterSums sums;  ///< parts: as add_lags() has them
  std::int64_t lags;
};

/// d_taps += the sums of the warps that have channels of the group, in a fixed order, in float64.
/// block: 8 warps; warp: one tap of one group, whose parts are divided among the lanes
__global__ void __launch_bounds__(256) add_lags_kernel(const __grid_constant__ LagArgs args) {
  const ParameterSums& sums = args.sums;
  const BlockFilter& filter = sums.filter;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t item = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (item >= filter.groups * filter.length) return;
  const std::int64_t group = item / filter.length, lag = item % filter.length, windows = sums.windows.of_group();
  double total = 0;
  for (std::int64_t window = group * windows; window < (group + 1) * windows; ++window) {
    const std::int64_t warps = sums.plan.channels / mr_tile, column = window / warps, warp = window % warps;
    const int low = sums.block_of(column * sums.plan.tiles),
              high = sums.block_of(column * sums.plan.tiles + sums.plan.tiles - 1);
    for (int block = low + lane; block <= high; block += 32)
      total += static_cast<double>(sums.parts[((block + column) * warps + warp) * args.lags + lag]);
  }
  total = sum_over_lanes(total);
  if (lane == 0) sums.d_taps(group, lag) += static_cast<float>(total);
}

ParameterSums sums_of(const HyenaBlockBackward& args, const BlockPlan& plan, int parameters, const float* parts,
                      TensorView d_taps, ChannelWindows windows) {
  return {.parts = parts,
          .plan = plan,
          .filter = BlockFilter(args.in),
          .parameters = parameters,
          .d_featurizer = Rows<float>(args.d_featurizer),
          .d_taps = Rows<float>(d_taps),
          .d_skip = Rows<float>(args.d_skip),
          .windows = windows};
}

}  // namespace

Tensor parameter_parts(const Stream& stream, const BlockPlan& plan, int parameters) {
  return Tensor(stream, DType::f32, {plan.blocks + plan.columns, parameters, plan.channels});
}

void add_parameters(const Stream& stream, const HyenaBlockBackward& args, const BlockPlan& plan, int parameters,
                    const float* parts, TensorView d_taps, ChannelWindows windows) {
  const ParameterSums sums = sums_of(args, plan, parameters, parts, d_taps, windows);
  const std::int64_t warps =
      (d_taps.present() ? d_taps.size() : 0) + ceil_div(sums.filter.channels, 32) * (3 * sums.filter.width + 1);
  launch_kernel<add_parameters_kernel>(stream, static_cast<int>(ceil_div(warps, 8)), 256, 0, sums);
}

void add_lags(const Stream& stream, const HyenaBlockBackward& args, const BlockPlan& plan, const Tensor& parts,
              ChannelWindows windows) {
  const LagArgs a{.sums = sums_of(args, plan, 0, parts.view().row<float>(0), args.d_taps, windows),
                  .lags = parts.view().shape[2]};
  launch_kernel<add_lags_kernel>(stream, static_cast<int>(ceil_div(args.d_taps.size(), 8)), 256, 0, a);
}

}  // namespace causeway::cuda::fused_block

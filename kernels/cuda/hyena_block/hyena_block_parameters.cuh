#pragma once

#include "kernels/cuda/hyena_block/hyena_block_mr_windows.cuh"

/// The sums of the parameters' gradients over the blocks of a backward.
namespace causeway::cuda::fused_block {

/// The parts of a plan's blocks: [blocks + columns, parameters, plan.channels] of float, those of a block for a column
/// at block + column. A part has 9 sums of the featurizer, then those of the taps.
struct ParameterSums {
  const float* parts;
  BlockPlan plan;
  BlockFilter filter;
  int parameters;
  Rows<float> d_featurizer, d_taps, d_skip;  ///< d_taps and d_skip may have no data
  ChannelWindows windows;

  /// The block whose range contains a tile of the sequence.
  __device__ int block_of(std::int64_t item) const {
    const std::int64_t all = std::int64_t{plan.columns} * plan.tiles;
    int block = static_cast<int>(item * plan.blocks / all);
    while (block + 1 < plan.blocks && plan.begin(block + 1) <= item) ++block;
    while (plan.begin(block) > item) --block;
    return block;
  }
  /// Σ over the blocks of the channel's column, in their order, of one parameter; every `step`-th from `first` on.
  __device__ double sum(std::int64_t channel, int parameter, int first = 0, int step = 1) const {
    const std::int64_t place = windows.place(channel);
    const int column = static_cast<int>(place / plan.channels);
    const int low = block_of(std::int64_t{column} * plan.tiles),
              high = block_of(std::int64_t{column} * plan.tiles + plan.tiles - 1);
    double total = 0;
    for (int block = low + first; block <= high; block += step)
      total += static_cast<double>(
          parts[((std::int64_t{block} + column) * parameters + parameter) * plan.channels + place % plan.channels]);
    return total;
  }
};

/// The sum of a value over the lanes, in a fixed order; all lanes get it.
__device__ inline double sum_over_lanes(double sum) {
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  return sum;
}

/// Memory for the parts, uninitialised.
Tensor parameter_parts(const Stream& stream, const BlockPlan& plan, int parameters);

/// Adds the parts to d_featurizer, d_skip and d_taps, in a fixed order, in float64. An absent d_taps is left out. The
/// sums of skip are those of tap 0.
void add_parameters(const Stream& stream, const HyenaBlockBackward& args, const BlockPlan& plan, int parameters,
                    const float* parts, TensorView d_taps, ChannelWindows windows = {});

/// Adds the parts of d_taps of the backward on tensor cores, [blocks + columns, warps, lags], in a fixed order, in
/// float64.
void add_lags(const Stream& stream, const HyenaBlockBackward& args, const BlockPlan& plan, const Tensor& parts,
              ChannelWindows windows);

}  // namespace causeway::cuda::fused_block

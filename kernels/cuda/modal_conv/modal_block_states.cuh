#pragma once

#include "kernels/cuda/modal_conv/modal_block_features.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma_forward.cuh"

/// The states that enter all units, from k and v before the featurizer, for the pass from right to left.
namespace causeway::cuda::modal_mma {

struct StatesArgs {
  ForwardArgs run;  ///< q and y are not accessed
  BlockRows in;
};

struct StatesMemory {
  unsigned char kv[2][2][tensor_bytes];  ///< [slot]
  ChannelConstants constants[block_channels];
  float carry[block_channels][mode_count];  ///< in order of places
  FeatureMemory features;
  UnitStarts starts[2];
  SharedBarrier full[2];
};
static_assert(sizeof(StatesMemory) <= 232448);

/// The mover. A slot is empty when its x is in registers (barrier 1 + slot).
__device__ inline void states_mover(const StatesArgs& all_args, StatesMemory& memory, int column, int begin, int end,
                                    int lane) {
  const ForwardArgs& args = all_args.run;
  StartReader starts(args.documents);
  starts.seek(std::int64_t{begin} * unit_tokens, lane);
  const auto fill = [&](int unit) {
    if (unit >= end) return;
    const int slot = (unit - begin) % 2;
    if (lane == 0) {
      arrive_expecting(memory.full[slot], 2 * tensor_bytes);
      load_box(memory.kv[slot][0], args.k, column * block_channels, unit * unit_tokens, memory.full[slot]);
      load_box(memory.kv[slot][1], args.v, column * block_channels, unit * unit_tokens, memory.full[slot]);
    }
    memory.features.fetch_row(all_args.in, unit, slot, column * block_channels + lane / 4 * warp_channels,
                              1 + lane / 2 % 2, lane % 2, lane / 4);
    commit_async_copies();
    read_starts(starts, std::int64_t{unit} * unit_tokens, memory.starts[slot], lane);
    wait_for_async_copies<0>();
    __syncwarp();
    memory.full[slot].arrive_as_warp();
  };
  fill(begin);
  fill(begin + 1);
#pragma unroll 1
  for (int unit = begin; unit + 2 < end; ++unit) {
    wait_at_barrier<meeting_threads>(1 + (unit - begin) % 2);
    fill(unit + 2);
  }
}

/// Each range from zero: what enters it is added afterwards. The sum of a range counts as its last part's.
///
/// block: 64 channels, a range of units (blockIdx.x: range * columns + column); 8 computing warps and a mover
/// warp: 8 channels
/// shared memory: StatesMemory
/// registers: k and v of 8 channels 80, then x 64
__global__ void __launch_bounds__(block_threads, 1) states_kernel(const __grid_constant__ StatesArgs all_args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  auto& memory = *reinterpret_cast<StatesMemory*>(block_memory());
  const ForwardArgs& args = all_args.run;
  const int thread = static_cast<int>(threadIdx.x), warp = __shfl_sync(~0u, thread / 32, 0), lane = thread % 32;
  const int column = static_cast<int>(blockIdx.x) % args.plan.columns,
            range = static_cast<int>(blockIdx.x) / args.plan.columns, begin = args.plan.begin(range),
            end = args.plan.begin(range + 1);
  // 1. Constants.
  if (thread == 0) {
    memory.full[0].initialize(2);
    memory.full[1].initialize(2);
    fence_barrier_initialization();
  }
  bool has_start;
  first_unit(args.documents, begin, end, lane, has_start);
  if (column == 0 && thread == 0) {
    args.part_starts[range * range_parts] = 0;
    args.part_starts[(range + 1) * range_parts - 1] = has_start;
  }
  copy_constants(memory.constants, args.constants + column * block_channels);
  memory.features.load_weights(all_args.in, column);
  for (int i = thread; i < block_channels * mode_count; i += block_threads)
    memory.carry[i / mode_count][i % mode_count] = 0;
  const int first_channel = warp * warp_channels;
  const std::int64_t channel = column * block_channels + first_channel;
  __syncthreads();
  if (warp >= computing_warps) {
    lower_registers<40>();
    if (warp > computing_warps) return;
    states_mover(all_args, memory, column, begin, end, lane);
    return;
  }
  raise_registers<232>();
  const Pieces pieces(LaneAddress(warp, lane), warp, lane);
  const FeatureProduct product(lane);
#pragma unroll 1
  for (int unit = begin; unit < end; ++unit) {
    const int i = unit - begin, slot = i % 2;
    // 2. x, and the starts of documents.
    const UnitStarts& starts = memory.starts[slot];
    memory.full[slot].wait(static_cast<unsigned>(i / 2) & 1);
    std::uint32_t high[warp_channels][4], low[warp_channels][4];
    {
      TokenPairs k, v;
      k.load(shared_address(memory.kv[slot][0]), memory.features.rows[slot][1], pieces, warp, lane);
      v.load(shared_address(memory.kv[slot][1]), memory.features.rows[slot][2], pieces, warp, lane);
      multiply_features(high, low, k, v, product, memory.features.weights + first_channel, starts, lane);
    }
    const TileReach reach(starts.tiles, lane);
    const LaneOrdinals ordinals(starts, lane);
    __syncwarp();
    arrive_at_barrier<meeting_threads>(1 + slot);
    const uint4 s = load_shared_16(shared_address(&memory.carry[first_channel][0]) + static_cast<unsigned>(lane * 16));
    if (channel < args.filter.channels)
      *reinterpret_cast<uint4*>(&args.states(unit, channel * mode_count + lane * 4)) = s;
      // 3. Pairs of channels.
#pragma unroll
    for (int pair = 0; pair < warp_channels / 2; ++pair) {
      const ChannelConstants* const constants = &memory.constants[first_channel + 2 * pair];
      float sums[2][2][4], decay[2][3][4], carry[2][4], entering[2][2][4], after[2][4];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        Powers powers;
        powers.load(constants[c], lane);
        std::uint32_t h[4], l[4];
        keep(h, high[2 * pair + c], ordinals.last);
        keep(l, low[2 * pair + c], ordinals.last);
        powers.sum(sums[c], h, l);
#pragma unroll
        for (int n = 0; n < 3; ++n) load_4(decay[c][n], &constants[c].decay[n][lane % 4 * 4]);
        load_4(carry[c], &memory.carry[first_channel + 2 * pair + c][lane % 4 * 4]);
      }
      scan_pair<false>(sums, decay, carry, reach, lane, entering, after);
      __syncwarp();
#pragma unroll
      for (int c = 0; c < 2; ++c)
        if (lane / 4 == 7)
          store_shared_16(shared_address(&memory.carry[first_channel + 2 * pair + c][lane % 4 * 4]), pack_4(after[c]));
    }
    __syncwarp();
  }
  // 4. The sum.
  if (channel >= args.filter.channels) return;
  for (int n = lane; n < warp_channels * mode_count; n += 32) {
    const std::int64_t at = (channel + n / mode_count) * mode_count + mode_at(n % mode_count),
                       size = args.filter.channels * mode_count;
    args.parts[range * range_parts * size + at] = 0;
    args.parts[((range + 1) * range_parts - 1) * size + at] =
        memory.carry[first_channel + n / mode_count][n % mode_count];
  }
#endif
}

struct CompletionArgs {
  ForwardArgs run;
  int units, groups;  ///< of a block; blocks of a range
};

/// Adds what entered a range to its states, which were computed from zero, up to the range's first document.
///
/// block: 64 channels, some units of a range (blockIdx.x: (range * groups + group) * columns + column)
/// thread: 4 modes of a channel, in the order of places
__global__ void __launch_bounds__(256) complete_states_kernel(const __grid_constant__ CompletionArgs args) {
  const ForwardArgs& run = args.run;
  const int column = static_cast<int>(blockIdx.x) % run.plan.columns,
            group = static_cast<int>(blockIdx.x) / run.plan.columns, range = group / args.groups,
            thread = static_cast<int>(threadIdx.x), j = thread % 4, begin = run.plan.begin(range),
            from = begin + group % args.groups * args.units, end = min(from + args.units, run.plan.begin(range + 1));
  const std::int64_t channel = std::int64_t{column} * block_channels + thread / 4;
  if (from >= end || (range == 0 && run.state_in.data == nullptr)) return;
  const std::int64_t next = warp_upper_bound(run.documents.cu_seqlens, run.documents.count + 1,
                                             std::int64_t{begin} * unit_tokens - 1, thread % 32);
  const std::int64_t start =
      next <= run.documents.count ? run.documents.cu_seqlens[next] : std::int64_t{1} << 62;  // the first in the range
  if (start < std::int64_t{from} * unit_tokens || channel >= run.filter.channels) return;
  float s[4], rate[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int m = mode_at(4 * j + e);
    s[e] = entering_state(run, range, channel, m);
    rate[e] = static_cast<float>(run.filter.rate(channel, m));
  }
  for (int unit = from; unit < end && std::int64_t{unit} * unit_tokens <= start; ++unit) {
    float* const to = &run.states(unit, channel * mode_count + 4 * j);
    const float tokens = static_cast<float>((unit - begin) * unit_tokens);
#pragma unroll
    for (int e = 0; e < 4; ++e) to[e] += ::expf(-rate[e] * tokens) * s[e];
  }
}

}  // namespace causeway::cuda::modal_mma

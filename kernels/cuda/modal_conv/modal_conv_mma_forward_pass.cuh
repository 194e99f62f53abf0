#pragma once

#include "kernels/cuda/modal_conv/modal_conv_mma_forward.cuh"

/// y from left to right, and (`Summary`) only the states, for the ranges to the right. `Operands` load x.
namespace causeway::cuda::modal_mma {

/// block: 64 channels, a range of units (blockIdx.x: range * columns + column); 8 computing warps and a mover
/// warp: 8 channels
/// shared memory: ForwardMemory
/// registers: x of 8 channels 64, q and y 32
template <bool Summary, class Operands>
__global__ void __launch_bounds__(block_threads, 1)
    forward_kernel(const __grid_constant__ typename Operands::Args all_args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  auto& all_memory = *reinterpret_cast<typename Operands::Memory*>(block_memory());
  const ForwardArgs& args = Operands::run_of(all_args);
  ForwardMemory& memory = all_memory.run;
  const int thread = static_cast<int>(threadIdx.x), warp = __shfl_sync(~0u, thread / 32, 0), lane = thread % 32;
  const int column = static_cast<int>(blockIdx.x) % args.plan.columns,
            range = static_cast<int>(blockIdx.x) / args.plan.columns;
  // 1. Constants and the states that enter.
  const auto [begin, end] = set_up_forward<Summary>(args, memory, column, range, lane);
  Operands::set_up(all_args, all_memory, column, begin, warp, lane);
  __syncthreads();
  if (warp >= computing_warps) {
    lower_registers<40>();
    if (warp > computing_warps) return;
    forward_mover<Summary>(args, memory, column, begin, end, lane);
    return;
  }
  raise_registers<232>();
  const LaneAddress address(warp, lane);
  const Operands operands(all_args, all_memory, column, warp, lane);
  const int first_channel = warp * warp_channels;
#pragma unroll 1
  for (int unit = begin; unit < end; ++unit) {
    const int i = unit - begin, slot = i % 2;
    // 2. x, and the starts of documents.
    const UnitStarts& starts = memory.starts[slot];
    operands.begin_unit(unit, end, slot);
    memory.full_kv.wait(static_cast<unsigned>(i) & 1);
    ProductOperands x;
    operands.load(x, starts, slot, address);
    const TileReach reach(starts.tiles, lane);
    const LaneOrdinals ordinals(starts, lane);
    const unsigned most = starts.most;
    __syncwarp();
    arrive_at_barrier<meeting_threads>(1);
    if (!Summary && unit >= args.states_from) {
      const std::int64_t channel = column * block_channels + first_channel + lane / 4;
      const uint4 s =
          load_shared_16(shared_address(&memory.carry[first_channel][0]) + static_cast<unsigned>(lane) * 16);
      if (channel < args.filter.channels)
        *reinterpret_cast<uint4*>(&args.states(unit - args.states_from, channel * mode_count + lane % 4 * 4)) = s;
    }
    std::uint32_t q[2][2][2][4];  // [th][half of places][e][pair of channels]
    const unsigned q_at = shared_address(memory.q[slot]);
    if constexpr (!Summary) {
      memory.full_q[slot].wait(static_cast<unsigned>(i / 2) & 1);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const uint4 w = load_shared_16(q_at + address.place[n % 2] + static_cast<unsigned>(n / 4 * 2048) -
                                       static_cast<unsigned>(n / 2 % 2 * 1024));
        auto& to = q[n / 4][n / 2 % 2][n % 2];
        to[0] = w.x, to[1] = w.y, to[2] = w.z, to[3] = w.w;
      }
    }
    // 3. Pairs of channels.
#pragma unroll
    for (int pair = 0; pair < warp_channels / 2; ++pair) {
      float y[2][2][4];
      const ChannelConstants* const constants = &memory.constants[first_channel + 2 * pair];
      // 3a. States: what each tile's last document adds, then the scan.
      Powers powers[2];
      float sums[2][2][4], decay[2][3][4], carry[2][4], entering[2][2][4], after[2][4];
#pragma unroll
      for (int c = 0; c < 2; ++c) powers[c].load(constants[c], lane);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        std::uint32_t high[4], low[4];
        keep(high, x.high[2 * pair + c], ordinals.last);
        keep(low, x.low[2 * pair + c], ordinals.last);
        powers[c].sum(sums[c], high, low);
      }
#pragma unroll
      for (int c = 0; c < 2; ++c) {
#pragma unroll
        for (int n = 0; n < 3; ++n) load_4(decay[c][n], &constants[c].decay[n][lane % 4 * 4]);
        load_4(carry[c], &memory.carry[first_channel + 2 * pair + c][lane % 4 * 4]);
      }
      if constexpr (!Summary) {
        // 3b. h ∗ x of the document that each tile begins with.
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          clear(y[c]);
          Taps taps;
          taps.load(constants[c], lane);
          std::uint32_t high[4], low[4];
          keep(high, x.high[2 * pair + c], ordinals.before);
          keep(low, x.low[2 * pair + c], ordinals.before);
          taps.multiply(y[c], high, low);
        }
      }
      scan_pair<false>(sums, decay, carry, reach, lane, entering, after);
      __syncwarp();
#pragma unroll
      for (int c = 0; c < 2; ++c)
        if (lane / 4 == 7)
          store_shared_16(shared_address(&memory.carry[first_channel + 2 * pair + c][lane % 4 * 4]), pack_4(after[c]));
      if constexpr (!Summary) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          float scale[4];
          load_4(scale, &constants[c].out[lane % 4 * 4]);
          std::uint32_t high[4], low[4];
          state_operands(entering[c], scale, high, low);
          powers[c].expand(y[c], high, low);
        }
      }
      if constexpr (!Summary) {
        // 3c. Documents that begin in a tile.
        multiply_new_documents(y, x.high + 2 * pair, x.low + 2 * pair, constants, ordinals, most, lane);
        // 3d. y of both channels replaces q.
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          auto& words = q[n / 4][n / 2 % 2][n % 2];
          const int at = n / 4 * 2 + n % 2;
          const std::uint32_t word = words[pair], out = pack_bf16(low_bf16(word) * y[0][n / 2 % 2][at],
                                                                  high_bf16(word) * y[1][n / 2 % 2][at]);
          words[pair] = out;
        }
      }
    }
    // 4. y to shared memory.
    if constexpr (!Summary) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const auto& from = q[n / 4][n / 2 % 2][n % 2];
        store_shared_16(
            q_at + address.place[n % 2] + static_cast<unsigned>(n / 4 * 2048) - static_cast<unsigned>(n / 2 % 2 * 1024),
            {from[0], from[1], from[2], from[3]});
      }
      fence_bulk_copies();
      __syncwarp();
      arrive_at_barrier<meeting_threads>(2 + slot);
    }
    __syncwarp();
  }
  // 5. The state after the part, or after the run.
  write_last_state<Summary>(args, memory, column * block_channels + first_channel, first_channel, range, end, lane);
#endif
}

}  // namespace causeway::cuda::modal_mma

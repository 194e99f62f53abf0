#include "kernels/cuda/modal_conv/modal_conv_mma_forward.cuh"

/// y from left to right, and (`Summary`) only the states, for the ranges to the right.
namespace causeway::cuda::modal_mma {
namespace {

/// block: 64 channels, a range of units (blockIdx.x: range * columns + column); 8 computing warps and a mover
/// warp: 8 channels
/// shared memory: ForwardMemory
/// registers: x of 8 channels 64, q and y 32
template <bool Summary>
__global__ void __launch_bounds__(block_threads, 1) forward_kernel(const __grid_constant__ ForwardArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  ForwardMemory& memory = *reinterpret_cast<ForwardMemory*>(block_memory());
  const int thread = static_cast<int>(threadIdx.x), warp = __shfl_sync(~0u, thread / 32, 0), lane = thread % 32;
  const int column = static_cast<int>(blockIdx.x) % args.plan.columns,
            range = static_cast<int>(blockIdx.x) / args.plan.columns;
  // 1. Constants and the states that enter.
  const auto [begin, end] = set_up_forward<Summary>(args, memory, column, range, lane);
  __syncthreads();
  if (warp >= computing_warps) {
    lower_registers<40>();
    if (warp > computing_warps) return;
    forward_mover<Summary>(args, memory, column, begin, end, lane);
    return;
  }
  raise_registers<232>();
  const LaneAddress address(warp, lane);
  const unsigned k_at = shared_address(memory.kv[0]), v_at = shared_address(memory.kv[1]);
  const int first_channel = warp * warp_channels;
#pragma unroll 1
  for (int unit = begin; unit < end; ++unit) {
    const int i = unit - begin, slot = i % 2;
    // 2. x, and the starts of documents.
    memory.full_kv.wait(static_cast<unsigned>(i) & 1);
    ProductOperands x;
    x.load(k_at, v_at, address);
    const UnitStarts& starts = memory.starts[slot];
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
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int channel = first_channel + 2 * pair + c;
        const ChannelConstants& constants = memory.constants[channel];
        const auto &xh = x.high[2 * pair + c], &xl = x.low[2 * pair + c];
        // 3a. States: what each tile's last document adds, then the scan.
        Powers powers;
        powers.load(constants, lane);
        std::uint32_t high[4], low[4];
        keep(high, xh, ordinals.last);
        keep(low, xl, ordinals.last);
        float sums[2][4], decay[3][4], carry[4], entering[2][4], after[4];
        powers.sum(sums, high, low);
#pragma unroll
        for (int n = 0; n < 3; ++n) load_4(decay[n], &constants.decay[n][lane % 4 * 4]);
        load_4(carry, &memory.carry[channel][lane % 4 * 4]);
        scan_tiles(sums, decay, carry, reach, lane, entering, after);
        __syncwarp();
        if (lane / 4 == 7) store_shared_16(shared_address(&memory.carry[channel][lane % 4 * 4]), pack_4(after));
        if constexpr (!Summary) {
          // 3b. h ∗ x of the document that each tile begins with.
#pragma unroll
          for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) y[c][n][e] = 0;
          Taps taps;
          taps.load(constants, lane);
          keep(high, xh, ordinals.before);
          keep(low, xl, ordinals.before);
          taps.multiply(y[c], high, low);
          float scale[4];
          load_4(scale, &constants.out[lane % 4 * 4]);
          state_operands(entering, scale, high, low);
          powers.expand(y[c], high, low);
        }
      }
      if constexpr (!Summary) {
        // 3c. Documents that begin in a tile.
#pragma unroll 1
        for (unsigned ordinal = 1; ordinal <= most; ++ordinal) {
          unsigned masks[4];
#pragma unroll
          for (int n = 0; n < 4; ++n) masks[n] = ordinals.mask(n % 2, n / 2, ordinal);
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            Taps taps;
            taps.load(memory.constants[first_channel + 2 * pair + c], lane);
            std::uint32_t high[4], low[4];
            keep(high, x.high[2 * pair + c], masks);
            keep(low, x.low[2 * pair + c], masks);
            float own[2][4] = {};
            taps.multiply(own, high, low);
#pragma unroll
            for (int n = 0; n < 8; ++n)
              if ((ordinals.place[n % 4 / 2] >> (16 * (n / 4) + 8 * (n % 2)) & 0xff) == ordinal)
                y[c][n / 4][n % 4] = own[n / 4][n % 4];
          }
        }
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

}  // namespace

bool has_kernels() {
#if CAUSEWAY_SM_90A
  return compute_capability() == 90;
#else
  return false;
#endif
}

void launch_forward(const Stream& stream, const ForwardArgs& args) {
  launch_kernel<forward_kernel<false>>(stream, args.plan.columns * args.plan.ranges, block_threads,
                                       sizeof(ForwardMemory), args);
}

void launch_forward_parts(const Stream& stream, const ForwardArgs& args, int end_part) {
  launch_kernel<forward_kernel<true>>(stream, args.plan.columns * end_part, block_threads, sizeof(ForwardMemory), args);
}

}  // namespace causeway::cuda::modal_mma

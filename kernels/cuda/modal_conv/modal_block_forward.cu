#include "kernels/cuda/modal_conv/modal_conv_mma_forward.cuh"
#include "kernels/hyena_block.hpp"

/// hyena_block with 16 modes, forward: featurizer, gates and convolution in one pass. A lane has tokens 2 j, 2 j + 1 of
/// half a tile, so it reads the two rows before them too. h∗x of a unit is kept in float where x was; q is read at the
/// end. Beside the formula of kernels/hyena_block.hpp: all between the loads and y is in float32 or in two parts of
/// bf16, and rounded once.
namespace causeway::cuda::modal_mma {
namespace {

struct BlockArgs {
  ForwardArgs run;  ///< q, k and v are before the featurizer
  Rows<const bf16> q, k, v, halo;
  ParameterRows<bf16> featurizer;
  int width;    ///< of the featurizer
  int reached;  ///< rows of the halo that the run's first document reaches

  __device__ float weight(int input, std::int64_t channel, int lag) const {
    const std::int64_t D = run.filter.channels;
    return channel < D && lag < width ? featurizer(input * D + channel, width - 1 - lag) : 0.0f;
  }
  /// An element of an input, in or before the run; zero where there is none.
  __device__ bf16 before(int input, std::int64_t token, std::int64_t channel) const {
    const std::int64_t D = run.filter.channels;
    if (channel >= D || token < -reached) return narrowed<bf16>(0.0f);
    if (token < 0) return halo(width - 1 + token, input * D + channel);
    return (input == 0 ? q : input == 1 ? k : v)(token, channel);
  }
};

struct BlockMemory {
  ForwardMemory run;
  float weights[block_channels][12];             ///< [3 input + lag]
  std::uint32_t rows[3][2][block_channels / 2];  ///< q, k, v: the last two rows of the unit before
};
static_assert(sizeof(BlockMemory) <= 232448);

/// Which of a lane's tokens of tile 2 g + th reach back one and two tokens: bit 4 half + 2 e + lag - 1.
struct RowReach {
  unsigned bits[2];
  template <bool Places>
  __device__ static RowReach read(const UnitStarts& starts, int lane) {
    RowReach r;
#pragma unroll
    for (int th = 0; th < 2; ++th) {
      const unsigned word = starts.words[lane / 4 * 2 + th];
      r.bits[th] = 0;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int slot = 2 * (lane % 4) + 8 * (n / 2) + n % 2, token = Places ? 15 - (slot ^ 1) : slot;
        // bits: e counts tokens upwards for places too
        if ((word >> (16 + token) & 1) == 0) r.bits[th] |= 1u << 2 * n;
        if ((word >> (15 + token) & 3) == 0) r.bits[th] |= 2u << 2 * n;
      }
    }
    return r;
  }
};

/// The featurizer of two tokens of a channel: words of rows t - 2 to t + 1, of which it takes the high or low half.
template <bool Masked>
__device__ inline void featured(float (&to)[2], const std::uint32_t (&rows)[4], bool high, float w0, float w1, float w2,
                                unsigned reach) {
  float x[4];
#pragma unroll
  for (int n = 0; n < 4; ++n) x[n] = high ? high_bf16(rows[n]) : low_bf16(rows[n]);
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    to[e] = w0 * x[2 + e];
    if (!Masked || (reach >> (2 * e) & 1) != 0) to[e] += w1 * x[1 + e];
    if (!Masked || (reach >> (2 * e) & 2) != 0) to[e] += w2 * x[e];
  }
}

__device__ inline std::uint32_t word_of(const uint4& x, int p) {
  return p == 0 ? x.x : p == 1 ? x.y : p == 2 ? x.z : x.w;
}

/// Rows t - 2 to t + 1 of 8 channels, t even, tile 2 g + th. `at` is the tensor; `last` the two rows before the unit.
__device__ inline void load_rows(uint4 (&to)[4], unsigned at, unsigned last, int t, int th, int warp, int lane) {
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const int row = 32 * (lane / 4) + 16 * th + t - 2 + n;
    const unsigned inside = at + static_cast<unsigned>(row * 128 + (warp ^ (row % 8)) * 16),
                   before = last + static_cast<unsigned>((row + 2) * 128 + warp * 16);
    to[n] = load_shared_16(n < 2 && row < 0 ? before : inside);
  }
}

/// block: 64 channels, a range of units (blockIdx.x: range * columns + column); 8 computing warps and a mover
/// warp: 8 channels
/// shared memory: BlockMemory
/// registers: x of 8 channels 64, then h∗x of them in float; y 32
template <bool Summary>
__global__ void __launch_bounds__(block_threads, 1) block_forward_kernel(const __grid_constant__ BlockArgs block_args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  const ForwardArgs& args = block_args.run;
  BlockMemory& block = *reinterpret_cast<BlockMemory*>(block_memory());
  ForwardMemory& memory = block.run;
  const int thread = static_cast<int>(threadIdx.x), warp = __shfl_sync(~0u, thread / 32, 0), lane = thread % 32;
  const int column = static_cast<int>(blockIdx.x) % args.plan.columns,
            range = static_cast<int>(blockIdx.x) / args.plan.columns;
  // 1. Constants, the states that enter, and the rows before the range.
  const auto [begin, end] = set_up_forward<Summary>(args, memory, column, range, lane);
  for (int i = thread; i < block_channels * 9; i += block_threads) {
    const int c = i / 9, n = i % 9 / 3, lag = i % 3;
    block.weights[c][3 * n + lag] = block_args.weight(n, column * block_channels + c, lag);
  }
  for (int i = thread; i < 6 * block_channels; i += block_threads) {
    const int n = i / (2 * block_channels), row = i / block_channels % 2, c = i % block_channels;
    reinterpret_cast<bf16*>(block.rows[n][row])[c] =
        block_args.before(n, std::int64_t{begin} * unit_tokens - 2 + row, column * block_channels + c);
  }
  __syncthreads();
  if (warp >= computing_warps) {
    lower_registers<40>();
    if (warp > computing_warps) return;
    forward_mover<Summary>(args, memory, column, begin, end, lane);
    return;
  }
  raise_registers<232>();
  const LaneAddress address(warp, lane);
  const int first_channel = warp * warp_channels, j = lane % 4;
  const auto tensor = [&](int n, int slot) {
    return n == 0 ? shared_address(memory.q[slot]) : shared_address(memory.kv[n - 1]);
  };
#pragma unroll 1
  for (int unit = begin; unit < end; ++unit) {
    const int i = unit - begin, slot = i % 2;
    const UnitStarts& starts = memory.starts[slot];
    memory.full_kv.wait(static_cast<unsigned>(i) & 1);
    const bool masked = starts.tiles != 0 || (starts.words[0] >> 15 & 1) != 0;
    // 2. x of 8 channels as operands.
    ProductOperands x;
    const auto load = [&]<bool Masked>() {
      const RowReach reach = Masked ? RowReach::read<false>(starts, lane) : RowReach{};
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        uint4 k[4], v[4];
        load_rows(k, tensor(1, slot), shared_address(block.rows[1]), 2 * j + 8 * (n / 2), n % 2, warp, lane);
        load_rows(v, tensor(2, slot), shared_address(block.rows[2]), 2 * j + 8 * (n / 2), n % 2, warp, lane);
#pragma unroll
        for (int c = 0; c < warp_channels; ++c) {
          float w[8];  // lags of q's third, k's, v's: from [2]
          {
            const float* const from = block.weights[first_channel + c];
            const uint4 a = load_shared_16(shared_address(from + 4)), b = load_shared_16(shared_address(from + 8));
            w[0] = from[3], w[1] = __uint_as_float(a.x), w[2] = __uint_as_float(a.y);
            w[3] = __uint_as_float(a.z), w[4] = __uint_as_float(a.w), w[5] = __uint_as_float(b.x);
          }
          const std::uint32_t rows_k[4] = {word_of(k[0], c / 2), word_of(k[1], c / 2), word_of(k[2], c / 2),
                                           word_of(k[3], c / 2)},
                              rows_v[4] = {word_of(v[0], c / 2), word_of(v[1], c / 2), word_of(v[2], c / 2),
                                           word_of(v[3], c / 2)};
          float K[2], V[2];
          const unsigned bits = Masked ? reach.bits[n % 2] >> (4 * (n / 2)) : 0;
          featured<Masked>(K, rows_k, c % 2 == 1, w[0], w[1], w[2], bits);
          featured<Masked>(V, rows_v, c % 2 == 1, w[3], w[4], w[5], bits);
          split_pair(K[0] * V[0], K[1] * V[1], x.high[c][n], x.low[c][n]);
        }
      }
    };
    if (masked)
      load.template operator()<true>();
    else
      load.template operator()<false>();
    const TileReach reach(starts.tiles, lane);
    const LaneOrdinals ordinals(starts, lane);
    const unsigned most = starts.most;
    __syncwarp();
    if (lane < 4) {  // k's and v's last rows
      const int row = lane % 2, n = 1 + lane / 2;
      store_shared_16(
          shared_address(block.rows[n][row]) + static_cast<unsigned>(warp * 16),
          load_shared_16(tensor(n, slot) + static_cast<unsigned>((254 + row) * 128 + (warp ^ (6 + row)) * 16)));
    }
    __syncwarp();
    arrive_at_barrier<meeting_threads>(1);
    // 3. Pairs of channels, as in li_forward; h ∗ x replaces x: high for places 0 to 7, low for the others, [2 th + e].
#pragma unroll 1
    for (int pair = 0; pair < warp_channels / 2; ++pair) {
      float y[2][2][4];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int channel = first_channel + 2 * pair + c;
        const ChannelConstants& constants = memory.constants[channel];
        const auto &xh = x.high[c], &xl = x.low[c];
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
#pragma unroll
          for (int n = 0; n < 8; ++n) y[c][n / 4][n % 4] = 0;
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
      if constexpr (!Summary)
        multiply_new_documents(y, x.high, x.low, &memory.constants[first_channel + 2 * pair], ordinals, most, lane);
      x.shift();
      if constexpr (!Summary) {
        constexpr int to = warp_channels - 2;
#pragma unroll
        for (int c = 0; c < 2; ++c)
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            x.high[to + c][n] = __float_as_uint(y[c][0][n]);
            x.low[to + c][n] = __float_as_uint(y[c][1][n]);
          }
      }
    }
    // 4. q and y.
    if constexpr (!Summary) {
      memory.full_q[slot].wait(static_cast<unsigned>(i / 2) & 1);
      std::uint32_t out[2][2][2][4];  // [th][half of places][e][pair of channels]
      const auto finish = [&]<bool Masked>() {
        const RowReach back = Masked ? RowReach::read<true>(starts, lane) : RowReach{};
#pragma unroll
        for (int n = 0; n < 4; ++n) {  // half of places n / 2, tile n % 2: tokens 14 - 2 j - 8 half and the next one
          uint4 q[4];
          load_rows(q, tensor(0, slot), shared_address(block.rows[0]), 14 - 2 * j - 8 * (n / 2), n % 2, warp, lane);
          float value[2][2];
#pragma unroll
          for (int c = 0; c < warp_channels; ++c) {
            const uint4 a = load_shared_16(shared_address(block.weights[first_channel + c]));
            const std::uint32_t rows[4] = {word_of(q[0], c / 2), word_of(q[1], c / 2), word_of(q[2], c / 2),
                                           word_of(q[3], c / 2)};
            float Q[2];
            featured<Masked>(Q, rows, c % 2 == 1, __uint_as_float(a.x), __uint_as_float(a.y), __uint_as_float(a.z),
                             Masked ? back.bits[n % 2] >> (4 * (n / 2)) : 0);
            const auto& from = n / 2 == 0 ? x.high[c] : x.low[c];
#pragma unroll
            for (int e = 0; e < 2; ++e)  // place e is the later token
              value[c % 2][e] = Q[1 - e] * __uint_as_float(from[2 * (n % 2) + e]);
            if (c % 2 == 1)
#pragma unroll
              for (int e = 0; e < 2; ++e) out[n % 2][n / 2][e][c / 2] = pack_bf16(value[0][e], value[1][e]);
          }
        }
      };
      if (masked)
        finish.template operator()<true>();
      else
        finish.template operator()<false>();
      __syncwarp();
      if (lane < 2)
        store_shared_16(
            shared_address(block.rows[0][lane]) + static_cast<unsigned>(warp * 16),
            load_shared_16(tensor(0, slot) + static_cast<unsigned>((254 + lane) * 128 + (warp ^ (6 + lane)) * 16)));
      __syncwarp();
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        const auto& from = out[n / 4][n / 2 % 2][n % 2];
        store_shared_16(tensor(0, slot) + address.place[n % 2] + static_cast<unsigned>(n / 4 * 2048) -
                            static_cast<unsigned>(n / 2 % 2 * 1024),
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

BlockArgs block_args(const ForwardArgs& run, const HyenaBlockInputs& in) {
  const std::int64_t reach = block_reach(in);
  return {.run = run,
          .q = Rows<const bf16>(in.q),
          .k = Rows<const bf16>(in.k),
          .v = Rows<const bf16>(in.v),
          .halo = Rows<const bf16>(in.halo),
          .featurizer = ParameterRows<bf16>(in.featurizer),
          .width = static_cast<int>(in.featurizer.columns()),
          .reached = in.segments.continues_from_left() ? static_cast<int>(std::min(reach, -in.segments.host[0])) : 0};
}

}  // namespace

void launch_block_forward_parts(const Stream& stream, const ForwardArgs& run, const HyenaBlockInputs& in,
                                int end_part) {
  launch_kernel<block_forward_kernel<true>>(stream, run.plan.columns * end_part, block_threads, sizeof(BlockMemory),
                                            block_args(run, in));
}

void launch_block_forward(const Stream& stream, const ForwardArgs& run, const HyenaBlockInputs& in) {
  const int parts = run.plan.parts() - range_parts;
  if (parts > 0) launch_block_forward_parts(stream, run, in, parts);
  launch_kernel<block_forward_kernel<false>>(stream, run.plan.columns * run.plan.ranges, block_threads,
                                             sizeof(BlockMemory), block_args(run, in));
}

}  // namespace causeway::cuda::modal_mma

#pragma once

#include "kernels/cuda/hyena_block/hyena_block_mr_query.cuh"
#include "kernels/cuda/hyena_block/hyena_block_parameters.cuh"

/// The second pass of the backward with tensor cores: d_k', d_v', d_taps, d_skip and the featurizer's gradients of k
/// and v, from right to left.
namespace causeway::cuda::fused_block {

struct MrScanArgs {
  RunMap q, k, v, d_y, d_k, d_v;           ///< boxes of 32 tokens by 64 channels, 128-byte swizzle
  RunMap q_earlier, k_earlier, v_earlier;  ///< boxes of 2 tokens
  BlockFilter filter;
  SegmentsView documents;
  BlockPlan plan;    ///< tiles are numbered from the end of a column
  float* parts;      ///< [blocks + columns, mr_parameters, 64]
  float* lag_parts;  ///< [blocks + columns, 4 warps, Filters, 16 Blocks]
};

inline constexpr unsigned mr_lag_bytes = 1024;  ///< of the two rows before a stage, with room to align

template <int Blocks, int Stages_>
struct MrScanMemory {
  static constexpr int Stages = Stages_;
  MrPast<Blocks> past[computing_warps];
  unsigned char earlier[Stages][3][mr_lag_bytes];  ///< the two rows before each stage
  struct Ring : BlockRing<4, mr_stage_tokens / unit_tokens, Stages_, mr_channels, 2> {
    using Base = BlockRing<4, mr_stage_tokens / unit_tokens, Stages_, mr_channels, 2>;
    static constexpr unsigned copied_bytes = Base::stage_bytes + 3 * 2 * mr_channels * 2;
  } ring;
  /// LagSums::write needs this much of a warp's past.
  static_assert(sizeof(MrPast<Blocks>) >= (mr_tile * (mr_tile + 1) + mr_tile * (Blocks + 1)) * 4);
};

/// block: 64 channels, a range of tiles of 32 tokens; 4 computing warps and a mover's warpgroup
/// warp: 16 channels, from right to left
/// shared memory: a ring of `Stages` stages of 19 KiB, d_k' replaces k', d_v' replaces v'; the last tiles of d_c as
/// [tokens, channels]
/// registers: Toeplitz blocks 19, tiles of d_c 36, sums of d_taps 72, parameters 20, sums of parameters 14, d_k and d_v
/// of the first tokens of the later tile 8
/// More than 80 lines because all phases share the registers.
template <int Blocks, int Filters, int Stages, int PerMultiprocessor>
__global__ void __launch_bounds__(256, PerMultiprocessor) mr_scan_kernel(const __grid_constant__ MrScanArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Memory = MrScanMemory<Blocks, Stages>;
  using Ring = typename Memory::Ring;
  Memory& memory = *reinterpret_cast<Memory*>(block_memory());
  Ring& ring = memory.ring;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  ring.initialize();

  // 1. The mover.
  if (warp >= computing_warps) {
    lower_registers<24>();
    if (warp > computing_warps) return;
    move_tiles<1, true>(
        ring, args.plan, args.documents,
        [&](int slot, int column, int token) {
          const int c = column * mr_channels;
          args.q.load(ring.rows[slot][q_input], c, token, ring.full[slot]);
          args.k.load(ring.rows[slot][k_input], c, token, ring.full[slot]);
          args.v.load(ring.rows[slot][v_input], c, token, ring.full[slot]);
          args.d_y.load(ring.rows[slot][d_y_input], c, token, ring.full[slot]);
          args.q_earlier.load(memory.earlier[slot][q_input], c, token - 2, ring.full[slot]);
          args.k_earlier.load(memory.earlier[slot][k_input], c, token - 2, ring.full[slot]);
          args.v_earlier.load(memory.earlier[slot][v_input], c, token - 2, ring.full[slot]);
        },
        [&](const TileCursor& at, int slot, int) {
          const int token = token_of<true>(args.plan, at.tile, mr_stage_tokens);
          args.d_k.store(ring.rows[slot][k_input], at.column * mr_channels, token);
          args.d_v.store(ring.rows[slot][v_input], at.column * mr_channels, token);
        });
    return;
  }
  raise_registers<232>();
  MrRingStages<Ring> stages{ring};
  const MrAddress address(warp, lane);
  const unsigned past = shared_address(memory.past[warp].tiles), past_store = past + MrPast<Blocks>::store_row(lane),
                 past_load = past + MrPast<Blocks>::load_row(lane);
  using Past = MrPast<Blocks>;

  for (TileCursor cursor(args.plan, static_cast<int>(blockIdx.x)); cursor.exists();) {
    // 2. A stretch: parameters; no later tiles.
    MrParameters parameters;
    TransposedFilters<Blocks, Filters> filter;
    const int channel = cursor.column * mr_channels + warp * mr_tile;
    parameters.load(args.filter, channel + lane / 4);
    filter.load(args.filter, channel, lane);
    const std::int64_t width = args.filter.channels / args.filter.groups;
    const int split = static_cast<int>((channel / width + 1) * width - channel);  // of the warp's channels
    std::uint32_t ring_of_d_c[Blocks][4] = {};
    LagSums<Blocks, Filters> lags;
    lags.clear();
    float d_w[2][featurizer_taps][2] = {}, d_skip[2] = {}, next[2][2][2] = {};  // of k and v
    const std::uint32_t zeros[4] = {};
    __syncwarp();
    for (unsigned b = 0; b < Past::places; ++b) stmatrix_x4_transposed(past_store + b * Past::tile_bytes, zeros);
    const int count = 2 * (cursor.last - cursor.begin), warm_up = 2 * (cursor.first - cursor.begin);
    unsigned base = 0, starts_after = 0;
    unsigned place = 0;  // of the tile in `past`, its offset
                         // 3. Its tiles.
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int half = 1 - i % 2;
      if (half == 1) base = stages.acquire();
      shift_ring(ring_of_d_c);
      const bool wraps = half == 0 && address.wraps;
      const unsigned starts = stages.starts(half),
                     row = base + static_cast<unsigned>(half) * mr_tile_bytes + address.row,
                     earlier = wraps ? shared_address(memory.earlier[stages.slot]) + address.row
                                     : base + static_cast<unsigned>(half) * mr_tile_bytes + address.earlier,
                     earlier_step = wraps ? mr_lag_bytes : mr_tensor_bytes;
      // Bit b: a document begins with token b of the tile, or b - 16 of the tile after it.
      const unsigned from_here = starts >> 16 | (starts_after & 0xffff0000u);
      const auto load = [&](std::uint32_t(&to)[4], BlockInput input) {
        ldmatrix_x4<true>(to, row + static_cast<unsigned>(input) * mr_tensor_bytes);
      };
      const auto load_earlier = [&](std::uint32_t(&to)[4], BlockInput input) {
        ldmatrix_x4<true>(to, earlier + static_cast<unsigned>(input) * earlier_step);
      };
      const auto compute = [&]<bool Masked>() {
        const unsigned reach = Masked ? lane_reaches(starts, lane) : 0, here = starts >> 16;
        const bool counts = i >= warm_up;
        // 3a. d_c = d_y⊙q, x = k⊙v.
        TileValues d_c, k, v;
        std::uint32_t d_c_pairs[4], x_pairs[4];
        {
          std::uint32_t rows[4], earlier_rows[4];
          load(rows, q_input);
          load_earlier(earlier_rows, q_input);
          d_c = featured<Masked>(rows, earlier_rows, parameters.featurizer[q_input], reach);
          load(rows, d_y_input);
#pragma unroll
          for (int j = 0; j < 4; ++j) d_c.at[j][0] *= low_bf16(rows[j]), d_c.at[j][1] *= high_bf16(rows[j]);
          round_tile(d_c_pairs, d_c);
          load(rows, k_input);
          load_earlier(earlier_rows, k_input);
          k = featured<Masked>(rows, earlier_rows, parameters.featurizer[k_input], reach);
          load(rows, v_input);
          load_earlier(earlier_rows, v_input);
          v = featured<Masked>(rows, earlier_rows, parameters.featurizer[v_input], reach);
          const TileValues x = k * v;
          round_tile(x_pairs, x);
#pragma unroll
          for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) {
              if (counts) d_skip[j % 2] += d_c.at[j][e] * x.at[j][e];
              d_c.at[j][e] *= parameters.skip[j % 2];
            }
        }
        // 3b. The sums of d_taps.
        __syncwarp();
        if (counts) {
          stmatrix_x4_transposed(past_store + place, d_c_pairs);
          std::uint32_t x_rows[4], d_c_rows[4];
          transpose_tile(x_rows, x_pairs);
          __syncwarp();
          ldmatrix_x4<false>(d_c_rows, past_load + place);
          if (Masked && here != 0) {
            std::uint32_t x_part[4], d_c_part[4];
            const auto add_segment = [&](int low, int high) {
              keep_rows(x_part, x_rows, low, high, lane);
              keep_rows(d_c_part, d_c_rows, low, high, lane);
              lags.add(0, d_c_part, x_part, split, lane);
            };
            add_segment(0, tokens_before(here));
            for_each_start(here, add_segment);
            const int last = 31 - __clz(static_cast<int>(here));
            keep_rows(x_part, x_rows, last, mr_tile, lane);
#pragma unroll
            for (int j = 0; j < 4; ++j) x_rows[j] = x_part[j];
          } else {
            lags.add(0, d_c_rows, x_rows, split, lane);
          }
#pragma unroll
          for (int b = 1; b < Blocks; ++b) {
            ldmatrix_x4<false>(d_c_rows, past_load + Past::before(place, b));
            lags.add(b, d_c_rows, x_rows, split, lane);
          }
        }
        // 3c. d_x, d_k and d_v.
        d_c = convolve_back<Masked>(filter, ring_of_d_c, d_c_pairs, d_c, here, lane);
        __syncwarp();
        if (Masked && here != 0)
          for (unsigned b = 0; b < Past::places; ++b) stmatrix_x4_transposed(past_store + b * Past::tile_bytes, zeros);
        if (!counts || (Masked && here != 0)) {
          __syncwarp();
          stmatrix_x4_transposed(past_store + place, ring_of_d_c[0]);
        }
        // 3d. The featurizer's gradients and the rows of d_k' and d_v'.
        const unsigned reached = Masked ? lane_reached(from_here, lane) : 0;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const auto input = static_cast<BlockInput>(k_input + n);
          const TileValues d = d_c * (n == 0 ? v : k);
          std::uint32_t rows[4];
          load(rows, input);
          round_tile(rows, back_to_rows<Masked>(d, next[n], rows, parameters.featurizer[input], d_w[n], counts, reached,
                                                lane));
          __syncwarp();  // all lanes have read the tile
          stmatrix_x4_transposed(row + static_cast<unsigned>(input) * mr_tensor_bytes, rows);
#pragma unroll
          for (int e = 0; e < 2; ++e) next[n][e][0] = d.at[e][0], next[n][e][1] = d.at[e][1];
        }
      };
      if (__ballot_sync(~0u, starts >> 15 != 0 || (from_here & 0x30000) != 0) == 0)
        compute.template operator()<false>();
      else
        compute.template operator()<true>();
      starts_after = starts;
      place = Past::before(place, -1);
      if (half == 0) stages.release();
    }
    // 4. The parameters' gradients; zeros for those of the other pass.
    const std::int64_t slot = std::int64_t{static_cast<int>(blockIdx.x)} + cursor.column;
    float* const part = args.parts + slot * mr_parameters * mr_channels;
    const float zero[2] = {};
    const int at = warp * mr_tile + lane / 4;
#pragma unroll
    for (int j = 0; j < featurizer_taps; ++j) {
      write_channel_sums(part, j, zero, at, lane);
      write_channel_sums(part, featurizer_taps + j, d_w[0][j], at, lane);
      write_channel_sums(part, 2 * featurizer_taps + j, d_w[1][j], at, lane);
    }
    write_channel_sums(part, 3 * featurizer_taps, d_skip, at, lane);
    __syncwarp();
    lags.write(args.lag_parts + (slot * computing_warps + warp) * Filters * mr_tile * Blocks,
               reinterpret_cast<float*>(memory.past[warp].tiles), lane);
    __syncwarp();
    cursor.leave_stretch();
  }
#endif
}

/// d_taps += the sums of the warps that have channels of the group, in a fixed order, in float64.
/// block: 8 warps; warp: one tap of one group, whose parts are divided among the lanes
template <int Blocks, int Filters>
__global__ void __launch_bounds__(256) add_lags_kernel(const __grid_constant__ ParameterSums sums) {
  const BlockFilter& filter = sums.filter;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t item = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (item >= filter.groups * filter.length) return;
  const std::int64_t group = item / filter.length, lag = item % filter.length, width = filter.channels / filter.groups;
  double total = 0;
  for (std::int64_t tile = group * width / mr_tile; tile * mr_tile < (group + 1) * width; ++tile) {
    const std::int64_t column = tile * mr_tile / mr_channels, warp = tile % computing_warps,
                       of_filter = group - tile * mr_tile / width;
    const int low = sums.block_of(column * sums.plan.tiles),
              high = sums.block_of(column * sums.plan.tiles + sums.plan.tiles - 1);
    for (int block = low + lane; block <= high; block += 32)
      total += static_cast<double>(
          sums.parts[(((block + column) * computing_warps + warp) * Filters + of_filter) * mr_tile * Blocks + lag]);
  }
  total = sum_over_lanes(total);
  if (lane == 0) sums.d_taps(group, lag) += static_cast<float>(total);
}

}  // namespace causeway::cuda::fused_block

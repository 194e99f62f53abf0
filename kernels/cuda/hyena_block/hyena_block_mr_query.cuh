#pragma once

#include "kernels/cuda/device/warp_instructions.cuh"
#include "kernels/cuda/hyena_block/hyena_block_launch.cuh"
#include "kernels/cuda/hyena_block/hyena_block_mr_gradients.cuh"

/// The first pass of the backward with tensor cores: d_q' and the featurizer's gradient of q, from left to right.
namespace causeway::cuda::fused_block {

inline constexpr int mr_parameters = 3 * featurizer_taps + 1;  ///< of a part: the featurizer's, then skip

struct MrQueryArgs {
  RunMap q, k, v, d_y, d_q;  ///< boxes of 32 tokens by 64 channels, 128-byte swizzle
  BlockFilter filter;
  SegmentsView documents;
  BlockPlan plan;
  float* parts;  ///< [blocks + columns, mr_parameters, 64]
};

/// d_q' and d_featurizer of q. d_q = d_y⊙c. The rows of a tile are complete when the first two tokens of d_q of the
/// next tile are known; so a range writes the stages one before its own, and a column has one stage more than its
/// tokens.
///
/// block: 64 channels, a range of tiles of 32 tokens; 4 computing warps and a mover's warpgroup
/// warp: 16 channels, from left to right
/// shared memory: a ring of `Stages` stages of 16 KiB; d_q' replaces q'
/// registers: Toeplitz blocks 19, tiles of x 36, parameters 20, d_q of the tile before 8
template <int Blocks, int Filters, int Stages, int PerMultiprocessor>
__global__ void __launch_bounds__(256, PerMultiprocessor) mr_query_kernel(const __grid_constant__ MrQueryArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)  // it moves registers between warpgroups
  using Ring = BlockRing<4, mr_stage_tokens / unit_tokens, Stages, mr_channels, 2>;
  Ring& ring = *reinterpret_cast<Ring*>(block_memory());
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  ring.initialize();

  // 1. The mover.
  if (warp >= computing_warps) {
    lower_registers<40>();
    if (warp > computing_warps) return;
    move_tiles<2>(
        ring, args.plan, args.documents,
        [&](int slot, int column, int token) {
          args.q.load(ring.rows[slot][q_input], column * mr_channels, token, ring.full[slot]);
          args.k.load(ring.rows[slot][k_input], column * mr_channels, token, ring.full[slot]);
          args.v.load(ring.rows[slot][v_input], column * mr_channels, token, ring.full[slot]);
          args.d_y.load(ring.rows[slot][d_y_input], column * mr_channels, token, ring.full[slot]);
        },
        [&](const TileCursor& at, int, int before) {
          if (at.tile == 0) return;
          args.d_q.store(ring.rows[before][q_input], at.column * mr_channels,
                         token_of<false>(args.plan, at.tile - 1, mr_stage_tokens));
        });
    return;
  }
  raise_registers<216>();
  MrRingStages<Ring> stages{ring};
  const MrAddress address(warp, lane);
  for (TileCursor cursor(args.plan, static_cast<int>(blockIdx.x)); cursor.exists();) {
    // 2. A stretch: parameters; no earlier tiles.
    MrParameters parameters;
    ToeplitzFilters<Blocks, Filters> filter;
    const int channel = cursor.column * mr_channels + warp * mr_tile;
    parameters.load(args.filter, channel + lane / 4);
    filter.load(args.filter, channel, lane);
    std::uint32_t ring_of_x[Blocks][4] = {};
    TileValues d_q_before = {};
    std::uint32_t q_before[4] = {};
    float d_w[featurizer_taps][2] = {};
    const int count = 2 * (cursor.last - cursor.begin), warm_up = 2 * (cursor.first - cursor.begin);
    unsigned base = 0, base_before = 0, results = 0;
    // 3. Its tiles.
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int half = i % 2;
      if (half == 0) {
        base_before = base;
        base = stages.acquire();
        if (i == 0) base_before = base;  // rows that no result depends on
      }
      shift_ring(ring_of_x);
      const unsigned starts = stages.starts(half), tile = base + static_cast<unsigned>(half) * mr_tile_bytes,
                     row = tile + address.row,
                     earlier = (half == 0 && address.wraps ? base_before + mr_tensor_bytes : tile) + address.earlier;
      const auto load = [&](std::uint32_t(&to)[4], unsigned from, BlockInput input) {
        ldmatrix_x4<true>(to, from + static_cast<unsigned>(input) * mr_tensor_bytes);
      };
      std::uint32_t k_row[4], k_earlier[4], v_row[4], v_earlier[4];
      load(k_row, row, k_input);
      load(k_earlier, earlier, k_input);
      load(v_row, row, v_input);
      load(v_earlier, earlier, v_input);
      const auto compute = [&]<bool Masked>() {
        // 3a. x, c and d_q.
        const unsigned reach = Masked ? lane_reaches(starts, lane) : 0;
        TileValues x = featured<Masked>(k_row, k_earlier, parameters.featurizer[k_input], reach) *
                       featured<Masked>(v_row, v_earlier, parameters.featurizer[v_input], reach);
        std::uint32_t rounded[4];
        round_tile(rounded, x);
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int e = 0; e < 2; ++e) x.at[j][e] *= parameters.skip[j % 2];
        x = convolve<Masked>(filter, ring_of_x, 0, rounded, x, starts >> 16, lane);
        std::uint32_t q_row[4], d_y[4];
        load(q_row, row, q_input);
        load(d_y, row, d_y_input);
        TileValues d_q;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          d_q.at[j][0] = low_bf16(d_y[j]) * x.at[j][0];
          d_q.at[j][1] = high_bf16(d_y[j]) * x.at[j][1];
        }
        // 3b. d_featurizer, and the rows of the tile before.
        const float next[2][2] = {{d_q.at[0][0], d_q.at[0][1]}, {d_q.at[1][0], d_q.at[1][1]}};
        const TileValues rows = back_to_rows<Masked>(d_q_before, next, q_before, parameters.featurizer[q_input], d_w,
                                                     i >= warm_up, Masked ? lane_reached(starts, lane) : 0, lane);
        round_tile(rounded, rows);
        if (i > 0) stmatrix_x4_transposed(results, rounded);
        d_q_before = d_q;
#pragma unroll
        for (int j = 0; j < 4; ++j) q_before[j] = q_row[j];
      };
      if (__ballot_sync(~0u, starts >> 1 != 0) == 0)
        compute.template operator()<false>();
      else
        compute.template operator()<true>();
      results = row + q_input * mr_tensor_bytes;
      if (half == 1) stages.release();
    }
    // 4. The parameters' gradients; zeros for those of the other pass.
    float* const part =
        args.parts + (std::int64_t{static_cast<int>(blockIdx.x)} + cursor.column) * mr_parameters * mr_channels;
    const float zero[2] = {};
#pragma unroll
    for (int j = 0; j < featurizer_taps; ++j) write_channel_sums(part, j, d_w[j], warp * mr_tile + lane / 4, lane);
#pragma unroll
    for (int j = featurizer_taps; j < mr_parameters; ++j)
      write_channel_sums(part, j, zero, warp * mr_tile + lane / 4, lane);
    cursor.leave_stretch();
  }
#endif
}

}  // namespace causeway::cuda::fused_block

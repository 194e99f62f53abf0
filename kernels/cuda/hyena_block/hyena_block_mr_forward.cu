#include "kernels/cuda/hyena_block/hyena_block_launch.cuh"
#include "kernels/cuda/hyena_block/hyena_block_mr.cuh"

namespace causeway::cuda::fused_block {
namespace {

struct MrForwardArgs {
  RunMap q, k, v, y;  ///< boxes of 32 tokens by 64 channels, 128-byte swizzle
  BlockFilter filter;
  SegmentsView documents;
  BlockPlan plan;
};

/// A computing warp's walk. y of a tile overwrites q' only after the next tile has read the two rows before its first.
/// With `Unroll` the ring of tiles is indexed by constants in `Blocks` copies of the code; without, it is shifted.
template <int Blocks, int Filters, bool Unroll, class Stages>
__device__ inline void mr_forward_walk(const BlockFilter& filter_of, const BlockPlan& plan, Stages& stages, int warp,
                                       int lane) {
  const MrAddress address(warp, lane);
  for (TileCursor cursor(plan, static_cast<int>(blockIdx.x)); cursor.exists();) {
    // 1. A stretch: parameters; no earlier tiles.
    MrParameters parameters;
    ToeplitzFilters<Blocks, Filters> filter;
    const int channel = cursor.column * mr_channels + warp * mr_tile;
    parameters.load(filter_of, channel + lane / 4);
    filter.load(filter_of, channel, lane);
    std::uint32_t ring[Blocks][4] = {}, y[4] = {};
    const int count = 2 * (cursor.last - cursor.begin);
    unsigned base = 0, base_before = 0, y_address = 0;
    // 2. Its tiles.
#pragma unroll 1
    for (int i = 0; i < count;) {
#pragma unroll
      for (int c = 0; c < (Unroll ? Blocks : 1); ++c) {
        if (i >= count) break;
        if constexpr (!Unroll) shift_ring(ring);
        const int half = i % 2;
        if (half == 0) {
          base_before = base;
          base = stages.acquire();
          if (i == 0) base_before = base;  // rows that no result depends on
        }
        // 2a. The rows of the tile and of two tokens earlier.
        const unsigned starts = stages.starts(half), tile = base + static_cast<unsigned>(half) * mr_tile_bytes,
                       row = tile + address.row,
                       earlier = (half == 0 && address.wraps ? base_before + mr_tensor_bytes : tile) + address.earlier;
        const auto load = [&](std::uint32_t(&to)[4], unsigned from, BlockInput input) {
          ldmatrix_x4<true>(to, from + static_cast<unsigned>(input) * mr_tensor_bytes);
        };
        std::uint32_t k_row[4], k_earlier[4], v_row[4], v_earlier[4], q_row[4], q_earlier[4];
        load(q_earlier, earlier, q_input);
        load(k_row, row, k_input);
        load(k_earlier, earlier, k_input);
        load(v_row, row, v_input);
        load(v_earlier, earlier, v_input);
        // 2b. y of the tile before.
        __syncwarp();
        if (i > 0) stmatrix_x4_transposed(y_address, y);
        if (half == 0 && i > 0) stages.release();
        y_address = row + q_input * mr_tensor_bytes;
        // 2c. The featurizer, x, c and y.
        const auto compute = [&]<bool Masked>() {
          const unsigned reach = Masked ? lane_reaches(starts, lane) : 0;
          TileValues x = featured<Masked>(k_row, k_earlier, parameters.featurizer[k_input], reach) *
                         featured<Masked>(v_row, v_earlier, parameters.featurizer[v_input], reach);
          std::uint32_t rounded[4];
          round_tile(rounded, x);
#pragma unroll
          for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e) x.at[j][e] *= parameters.skip[j % 2];
          x = convolve<Masked>(filter, ring, c, rounded, x, starts >> 16, lane);
          load(q_row, row, q_input);
          round_tile(y, featured<Masked>(q_row, q_earlier, parameters.featurizer[q_input], reach) * x);
        };
        if ((starts >> 15) == 0)
          compute.template operator()<false>();
        else
          compute.template operator()<true>();
        ++i;
      }
    }
    __syncwarp();
    stmatrix_x4_transposed(y_address, y);
    stages.release();
    cursor.leave_stretch();
  }
}

/// block: 64 channels, a range of tiles of 32 tokens (BlockPlan); 4 computing warps and a mover
/// warp: 16 channels; the mover: bulk copies in and out (hyena_block_ring.cuh)
/// shared memory: a ring of `Stages` stages of 12 KiB; y replaces q'
/// registers: Toeplitz blocks 19, tiles of x 36, parameters 20
template <int Blocks, int Filters, int Stages, int PerMultiprocessor>
__global__ void __launch_bounds__(32 * (computing_warps + 1), PerMultiprocessor)
    mr_forward_kernel(const __grid_constant__ MrForwardArgs args) {
#if __CUDA_ARCH__ >= 900
  using Ring = BlockRing<3, mr_stage_tokens / unit_tokens, Stages, mr_channels, 2>;
  Ring& ring = *reinterpret_cast<Ring*>(block_memory());
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  ring.initialize();
  if (warp == computing_warps) {
    move_tiles<1>(
        ring, args.plan, args.documents,
        [&](int slot, int column, int token) {
          args.q.load(ring.rows[slot][q_input], column * mr_channels, token, ring.full[slot]);
          args.k.load(ring.rows[slot][k_input], column * mr_channels, token, ring.full[slot]);
          args.v.load(ring.rows[slot][v_input], column * mr_channels, token, ring.full[slot]);
        },
        [&](const TileCursor& at, int slot, int) {
          const int token = token_of<false>(args.plan, at.tile, mr_stage_tokens);
          if (token >= 0) args.y.store(ring.rows[slot][q_input], at.column * mr_channels, token);
        });
    return;
  }
  MrRingStages<Ring> stages{ring};
  mr_forward_walk<Blocks, Filters, Filters == 1>(args.filter, args.plan, stages, warp, lane);
#endif
}

}  // namespace

// Lower bound: read q, k, v, write y; 0.51 ms for L 65536, D 4096 on an H200.
void mr_forward(const Stream& stream, const HyenaBlockForward& args) {
  constexpr int stages = 8, per_multiprocessor = 2;
  const HyenaBlockInputs& in = args.in;
  const std::int64_t reached = reached_rows(in);
  const auto map = [&](TensorView x, TensorView halo, std::int64_t part) {
    return RunMap(x, halo, part, reached, mr_stage_tokens, mr_channels, true);
  };
  const MrForwardArgs a{.q = map(in.q, in.halo, 0),
                        .k = map(in.k, in.halo, 1),
                        .v = map(in.v, in.halo, 2),
                        .y = map(args.y, {}, 0),
                        .filter = BlockFilter(in),
                        .documents = in.segments,
                        .plan = BlockPlan::of(in, mr_channels, mr_stage_tokens, 0, in.taps.columns() + 1,
                                              per_multiprocessor * multiprocessors())};
  using Ring = BlockRing<3, mr_stage_tokens / unit_tokens, stages, mr_channels, 2>;
  with_mr_blocks(in, [&]<int Blocks, int Filters> {
    launch_kernel<mr_forward_kernel<Blocks, Filters, stages, per_multiprocessor>>(
        stream, a.plan.blocks, 32 * (computing_warps + 1), sizeof(Ring), a);
  });
}

}  // namespace causeway::cuda::fused_block

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

/// The stages of a ring that a mover fills, as a computing warp takes them: acquire() waits for the next one and
/// returns the shared address of its tensors, starts(half) is the word of a half of it, and release() says that this
/// warp's results in the oldest one are complete.
template <class Ring>
struct MrRingStages {
  Ring& ring;
  RingPosition<Ring::Stages> next, open;  ///< the next stage to acquire, the oldest to release
  int slot = 0;
  __device__ unsigned acquire() {
    slot = next.slot;
    ring.full[slot].wait(next.parity);
    next.advance();
    return shared_address(ring.rows[slot]);
  }
  __device__ unsigned starts(int half) const { return ring.starts[slot][half]; }
  __device__ void release() {
    arrive_done(open.slot);
    open.advance();
  }
};

/// The filters of the groups that a warp's 16 channels are of, up to two. With `Filters` 2 both products are computed,
/// and a channel takes its own.
template <int Blocks, int Filters>
struct MrFilters {
  ToeplitzFilter<Blocks> of_group[Filters];
  bool second[2];  ///< whether the lane's channels are of the second group

  /// channel: the warp's first.
  __device__ void load(const BlockFilter& filter, int channel, int lane) {
    const int width = static_cast<int>(filter.channels / filter.groups), first = channel / width;
#pragma unroll
    for (int f = 0; f < Filters; ++f) of_group[f].load(filter, first + f, lane);
#pragma unroll
    for (int e = 0; e < 2; ++e) second[e] = Filters == 2 && channel + lane / 4 + 8 * e >= (first + 1) * width;
  }
  __device__ TileValues own(const TileSums (&sum)[Filters]) const {
    TileValues out = ToeplitzFilter<Blocks>::values(sum[0]);
    if constexpr (Filters == 2) {
      const TileValues other = ToeplitzFilter<Blocks>::values(sum[1]);
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int e = 0; e < 2; ++e) out.at[i][e] = second[i % 2] ? other.at[i][e] : out.at[i][e];
    }
    return out;
  }
};

/// initial + Σ_b x_{n-b} H_b within documents; tile(to, b) loads x_{n-b}, b > 0, of the document of this tile's first
/// token. Products with odd b are a chain of their own, because one chain of nine waits for each of its products.
template <bool Masked, int Blocks, int Filters, class Tile>
__device__ inline TileValues convolve(const MrFilters<Blocks, Filters>& filters, const Tile& tile,
                                      const std::uint32_t (&x)[4], const TileValues& initial, unsigned starts,
                                      int lane) {
  TileSums sum[Filters], odd[Filters] = {};
  std::uint32_t earlier[4];
  const auto each = [&](const auto& body) {
#pragma unroll
    for (int f = 0; f < Filters; ++f) body(filters.of_group[f], sum[f], odd[f]);
  };
  if constexpr (Masked)
    keep_columns(earlier, x, 0, tokens_before(starts), lane);
  else
    for (int j = 0; j < 4; ++j) earlier[j] = x[j];
  each([&](const auto& filter, TileSums& even, TileSums&) {
    filter.begin(even, initial);
    filter.multiply(even, earlier, 0);
  });
#pragma unroll
  for (int b = 1; b < Blocks; ++b) {
    tile(earlier, b);
    each([&](const auto& filter, TileSums& even, TileSums& other) {
      filter.multiply(b % 2 == 1 ? other : even, earlier, b);
    });
  }
  each([&](const auto&, TileSums& even, TileSums& other) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) even[n][e] += other[n][e];
  });
  if constexpr (Masked)
    for_each_start(starts, [&](int from, int to) {
      keep_columns(earlier, x, from, to, lane);
      each([&](const auto& filter, TileSums& even, TileSums&) {
        filter.replace(even, earlier, initial, from, to, lane);
      });
    });
  return filters.own(sum);
}

template <int Blocks, int Stages>
struct MrForwardMemory {
  using Ring = BlockRing<3, mr_stage_tokens / unit_tokens, Stages, mr_channels, 2>;
  Ring ring;
  /// The last tiles of x of each warp. Each is stored twice, `Blocks` places apart, so that the last `Blocks` tiles
  /// always are neighbours and their addresses are constants beside one.
  alignas(128) unsigned char window[computing_warps][2 * Blocks][MrTileRows::bytes];
};

/// block: 64 channels, a range of tiles of 32 tokens (BlockPlan); 4 computing warps and a mover
/// warp: 16 channels
/// shared memory: a ring of `Stages` stages of 12 KiB; 9 KiB a warp for the last tiles of x
/// registers: Toeplitz blocks 19, parameters 20
/// y of a tile overwrites q' only after the next tile has read the two rows before its first.
template <int Blocks, int Filters, int Stages, int PerMultiprocessor>
__global__ void __launch_bounds__(ring_threads, PerMultiprocessor)
    mr_forward_kernel(const __grid_constant__ MrForwardArgs args) {
#if __CUDA_ARCH__ >= 900
  using Memory = MrForwardMemory<Blocks, Stages>;
  using Ring = typename Memory::Ring;
  Memory& memory = *reinterpret_cast<Memory*>(block_memory());
  Ring& ring = memory.ring;
  const int warp = uniform_warp(), lane = static_cast<int>(threadIdx.x) % 32;
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
          const int token = token_of(args.plan, at.tile, mr_stage_tokens);
          if (token >= 0) args.y.store(ring.rows[slot][q_input], at.column * mr_channels, token);
        });
    return;
  }
  MrRingStages<Ring> stages{ring};
  const MrAddress<false> address(warp, lane);
  constexpr unsigned window_bytes = Blocks * MrTileRows::bytes;
  const unsigned window = shared_address(memory.window[warp]) + MrTileRows::of_lane(lane);
  for (TileCursor cursor(args.plan, args.plan.range()); cursor.exists();) {
    // 1. A stretch: parameters; no earlier tiles.
    MrParameters parameters;
    MrFilters<Blocks, Filters> filter;
    const int channel = cursor.column * mr_channels + warp * mr_tile;
    parameters.load(args.filter, channel + lane / 4);
    filter.load(args.filter, channel, lane);
    const std::uint32_t zeros[4] = {};
    const auto clear = [&] {
      __syncwarp();
      for (unsigned b = 0; b < 2 * Blocks; ++b) stmatrix_x4_transposed(window + b * MrTileRows::bytes, zeros);
    };
    clear();
    std::uint32_t y[4] = {};
    const int count = 2 * (cursor.last - cursor.begin);
    unsigned base = 0, base_before = 0, y_address = 0, place = window;
    // 2. Its tiles.
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
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
      RawTile q, k, v;
      ldmatrix_x4<true>(k.row, row + k_input * mr_tensor_bytes);
      ldmatrix_x4<true>(k.earlier, earlier + k_input * mr_tensor_bytes);
      ldmatrix_x4<true>(v.row, row + v_input * mr_tensor_bytes);
      ldmatrix_x4<true>(v.earlier, earlier + v_input * mr_tensor_bytes);
      ldmatrix_x4<true>(q.earlier, earlier + q_input * mr_tensor_bytes);
      // 2b. y of the tile before.
      __syncwarp();
      if (i > 0) stmatrix_x4_transposed(y_address, y);
      if (half == 0 && i > 0) stages.release();
      y_address = row + q_input * mr_tensor_bytes;
      // 2c. The featurizer, x, c and y.
      const auto compute = [&]<bool Masked>() {
        const auto reach = ReachMasks<false>::of(Masked ? starts : 0, lane);
        TileValues x = featured(lagged<Masked>(k, reach), parameters.featurizer[k_input]) *
                       featured(lagged<Masked>(v, reach), parameters.featurizer[v_input]);
        std::uint32_t rounded[4];
        round_tile(rounded, x);
        const unsigned here = starts >> 16;
        if (!Masked || here == 0) {
          stmatrix_x4_transposed(place, rounded);
          stmatrix_x4_transposed(place + window_bytes, rounded);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int e = 0; e < 2; ++e) x.at[j][e] *= parameters.skip[j % 2];
        __syncwarp();  // what was stored for the tiles before
        const auto load_tile = [&](std::uint32_t(&to)[4], int b) {
          ldmatrix_x4<true>(to, place + window_bytes - static_cast<unsigned>(b) * MrTileRows::bytes);
        };
        x = convolve<Masked>(filter, load_tile, rounded, x, here, lane);
        if (Masked && here != 0) {  // the tokens of the last document stay
          clear();
          std::uint32_t masked[4];
          keep_columns(masked, rounded, 31 - __clz(static_cast<int>(here)), mr_tile, lane);
          __syncwarp();
          stmatrix_x4_transposed(place, masked);
          stmatrix_x4_transposed(place + window_bytes, masked);
        }
        ldmatrix_x4<true>(q.row, row + q_input * mr_tensor_bytes);
        round_tile(y, featured(lagged<Masked>(q, reach), parameters.featurizer[q_input]) * x);
      };
      if ((starts >> 15) == 0)
        compute.template operator()<false>();
      else
        compute.template operator()<true>();
      place = place == window + window_bytes - MrTileRows::bytes ? window : place + MrTileRows::bytes;
    }
    __syncwarp();
    stmatrix_x4_transposed(y_address, y);
    stages.release();
    cursor.leave_stretch();
  }
#endif
}

}  // namespace

// Lower bound: read q, k, v, write y; 0.51 ms for L 65536, D 4096 on an H200.
void mr_forward(const Stream& stream, const HyenaBlockForward& args) {
  constexpr int stages = 6, per_multiprocessor = 2;
  const HyenaBlockInputs& in = args.in;
  const std::int64_t reached = reached_rows(in);
  const auto map = [&](TensorView x, TensorView halo, std::int64_t part) {
    return RunMap(x, halo, part, reached, mr_stage_tokens, mr_channels, true);
  };
  const MrForwardArgs a{
      .q = map(in.q, in.halo, 0),
      .k = map(in.k, in.halo, 1),
      .v = map(in.v, in.halo, 2),
      .y = map(args.y, {}, 0),
      .filter = BlockFilter(in),
      .documents = in.segments,
      .plan = cut_columns_alike(BlockPlan::of(in, mr_channels, mr_stage_tokens, 0, in.taps.columns() + 1,
                                              per_multiprocessor * multiprocessors()))};
  with_mr_blocks(in, [&]<int Blocks, bool Narrow> {
    constexpr int Filters = Narrow ? 2 : 1;
    launch_kernel<mr_forward_kernel<Blocks, Filters, stages, per_multiprocessor>>(
        stream, a.plan.blocks, ring_threads, sizeof(MrForwardMemory<Blocks, stages>), a);
  });
}

}  // namespace causeway::cuda::fused_block

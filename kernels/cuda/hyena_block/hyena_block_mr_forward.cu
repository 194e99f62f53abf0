#include "kernels/cuda/hyena_block/hyena_block_launch.cuh"
#include "kernels/cuda/hyena_block/hyena_block_mr.cuh"

namespace causeway::cuda::fused_block {
namespace {

struct MrForwardArgs {
  RunMap q, k, v, y;  ///< boxes of 32 tokens by the channels of MrForm
  BlockFilter filter;
  SegmentsView documents;
  BlockPlan plan;
  ChannelWindows windows;
};

/// Blocks of threads of a multiprocessor.
template <MrLayout Layout>
inline constexpr int mr_forward_blocks = MrForm<Layout>::octets ? 1 : 2;

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
    arrive_done<Ring::threads>(open.slot);
    open.advance();
  }
};

/// The filters of the groups that a warp's channels are of, up to two. With `Filters` 2 both products are computed,
/// and a channel takes its own.
template <int Blocks, int Filters>
struct MrFilters {
  ToeplitzFilter<Blocks> of_group[Filters];
  bool second[2];  ///< whether the lane's channels are of the second group

  /// window: of 16 channels, or of a group with octets.
  template <MrLayout Layout>
  __device__ void load(const BlockFilter& filter, int window, int lane) {
    const int width = static_cast<int>(filter.channels / filter.groups), channel = window * mr_tile,
              first = MrForm<Layout>::octets ? window : channel / width;
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

template <int Blocks, int Stages, MrLayout Layout>
struct MrForwardMemory {
  using Form = MrForm<Layout>;
  using Ring = BlockRing<3, mr_stage_tokens / unit_tokens, Stages, Form::channels, 2, Form::warps>;
  Ring ring;
  /// The last tiles of x of each warp. Each is stored twice, `Blocks` places apart, so that the last `Blocks` tiles
  /// always are neighbours and their addresses are constants beside one.
  alignas(128) unsigned char window[Form::warps][2 * Blocks][MrTileRows::bytes];
};

/// block: 64 channels, a range of tiles of 32 tokens (BlockPlan); 4 computing warps and a mover; with octets 120
/// channels and 8 computing warps
/// warp: 16 places for channels
/// shared memory: a ring of `Stages` stages of 12 KiB; 9 KiB a warp for the last tiles of x
/// registers: Toeplitz blocks 19, parameters 20
/// y of a tile overwrites q' only after the next tile has read the two rows before its first.
template <int Blocks, int Filters, int Stages, MrLayout Layout>
__global__ void __launch_bounds__(MrForwardMemory<Blocks, Stages, Layout>::Ring::threads, mr_forward_blocks<Layout>)
    mr_forward_kernel(const __grid_constant__ MrForwardArgs args) {
#if __CUDA_ARCH__ >= 900
  using Memory = MrForwardMemory<Blocks, Stages, Layout>;
  using Form = MrForm<Layout>;
  using Ring = typename Memory::Ring;
  constexpr unsigned tensor_bytes = Form::tensor_bytes;
  Memory& memory = *reinterpret_cast<Memory*>(block_memory());
  Ring& ring = memory.ring;
  const int warp = uniform_warp(), lane = static_cast<int>(threadIdx.x) % 32;
  ring.initialize();
  if (warp == Form::warps) {
    move_tiles<1>(
        ring, args.plan, args.documents,
        [&](int slot, int column, int token) {
          args.q.load(ring.rows[slot][q_input], column * Form::channels, token, ring.full[slot]);
          args.k.load(ring.rows[slot][k_input], column * Form::channels, token, ring.full[slot]);
          args.v.load(ring.rows[slot][v_input], column * Form::channels, token, ring.full[slot]);
        },
        [&](const TileCursor& at, int slot, int) {
          const int token = token_of(args.plan, at.tile, mr_stage_tokens);
          if (token >= 0) args.y.store(ring.rows[slot][q_input], at.column * Form::channels, token);
        });
    return;
  }
  MrRingStages<Ring> stages{ring};
  const MrAddress<Layout> address(warp, lane);
  constexpr unsigned window_bytes = Blocks * MrTileRows::bytes;
  const unsigned past = shared_address(memory.window[warp]) + MrTileRows::of_lane(lane);
  for (TileCursor cursor(args.plan, args.plan.range()); cursor.exists();) {
    // 1. A stretch: parameters; no earlier tiles.
    MrParameters parameters;
    MrFilters<Blocks, Filters> filter;
    const int window = cursor.column * Form::warps + warp;
    const ChannelWindows windows = args.windows.template as<Layout>();
    parameters.load(args.filter, windows.channel(window, lane / 4), windows.channel(window, lane / 4 + 8));
    filter.template load<Layout>(args.filter, window, lane);
    const std::uint32_t zeros[4] = {};
    const auto clear = [&] {
      __syncwarp();
      for (unsigned b = 0; b < 2 * Blocks; ++b) stmatrix_x4_transposed(past + b * MrTileRows::bytes, zeros);
    };
    clear();
    std::uint32_t y[4] = {};
    const int count = 2 * (cursor.last - cursor.begin);
    unsigned base = 0, base_before = 0, place = past;
    MrRows<Layout> y_rows{};
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
      const unsigned starts = stages.starts(half);
      const auto rows = MrRows<Layout>::of(address, half == 0 ? MrTilePlace{base, base_before + tensor_bytes - base}
                                                              : MrTilePlace{base + Form::tile_bytes, 0});
      const auto q_rows = rows + q_input * tensor_bytes;
      RawTile q, k, v;
      k.load(rows + k_input * tensor_bytes);
      v.load(rows + v_input * tensor_bytes);
      q.load_earlier(q_rows);
      // 2b. y of the tile before.
      __syncwarp();
      if (i > 0) store_results(y_rows, y);
      if (half == 0 && i > 0) stages.release();
      y_rows = q_rows;
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
        q.load_row(q_rows);
        round_tile(y, featured(lagged<Masked>(q, reach), parameters.featurizer[q_input]) * x);
      };
      if ((starts >> 15) == 0)
        compute.template operator()<false>();
      else
        compute.template operator()<true>();
      place = place == past + window_bytes - MrTileRows::bytes ? past : place + MrTileRows::bytes;
    }
    __syncwarp();
    store_results(y_rows, y);
    stages.release();
    cursor.leave_stretch();
  }
#endif
}

}  // namespace

// Lower bound: read q, k, v, write y; 0.51 ms for L 65536, D 4096 on an H200.
void mr_forward(const Stream& stream, const HyenaBlockForward& args) {
  constexpr int stages = 6;
  const HyenaBlockInputs& in = args.in;
  const std::int64_t reached = reached_rows(in);
  with_mr_blocks(in, [&]<int Blocks, MrLayout OfGroups> {
    // Groups of other sizes: as they are in memory, with two filters a warp.
    constexpr bool words = OfGroups == MrLayout::words;
    constexpr MrLayout Layout = words ? MrLayout::whole : OfGroups;
    using Memory = MrForwardMemory<Blocks, stages, Layout>;
    using Form = MrForm<Layout>;
    const auto map = [&](TensorView x, TensorView halo, std::int64_t part) {
      return RunMap(x, halo, part, reached, mr_stage_tokens, Form::channels, Layout == MrLayout::whole);
    };
    const MrForwardArgs a{
        .q = map(in.q, in.halo, 0),
        .k = map(in.k, in.halo, 1),
        .v = map(in.v, in.halo, 2),
        .y = map(args.y, {}, 0),
        .filter = BlockFilter(in),
        .documents = in.segments,
        .plan = cut_columns_alike(BlockPlan::of(in, Form::places, mr_stage_tokens, 0, in.taps.columns() + 1,
                                                mr_forward_blocks<Layout> * multiprocessors(),
                                                Form::octets ? in.taps.rows() * mr_tile : 0)),
        .windows = Form::octets ? ChannelWindows::of(in, Layout) : ChannelWindows{.width = mr_tile}};
    launch_kernel<mr_forward_kernel<Blocks, words ? 2 : 1, stages, Layout>>(stream, a.plan.blocks,
                                                                            Memory::Ring::threads, sizeof(Memory), a);
  });
}

}  // namespace causeway::cuda::fused_block

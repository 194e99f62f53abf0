#include "kernels/cuda/hyena_block/hyena_block_launch.cuh"
#include "kernels/cuda/hyena_block/hyena_block_parameters.cuh"
#include "kernels/cuda/hyena_block/hyena_block_ring.cuh"
#include "kernels/cuda/hyena_block/hyena_block_se_backward.cuh"

namespace causeway::cuda::fused_block {
namespace {

struct SeBackwardArgs {
  RunMap q, k, v, d_y, d_q, d_k, d_v;  ///< boxes of 8 tokens by 256 channels
  BlockFilter filter;
  SegmentsView documents;
  BlockPlan plan;
  float* parts;  ///< [blocks + columns, block_parameters, 256]: a block's sums for a column are at block + column
};

/// block: 256 channels, a range of tiles of 8 tokens (BlockPlan); 4 computing warps and a mover
/// warp: 64 channels; the mover: bulk copies in and out (hyena_block_ring.cuh)
/// thread: two channels, token after token, forward in time
/// shared memory: a ring of `Stages` stages of 16 KiB; the gradients replace q', k', v' up to 8 tokens later
/// registers: SeBackwardLane
/// Tiles before the range (16 tokens) fill the registers. A range writes the gradients of the rows from 8 before its
/// first token to 8 before its end; the tiles of a column go 8 tokens beyond its end.
template <int Stages, int Blocks>
__global__ void __launch_bounds__(ring_threads, Blocks)
    se_backward_kernel(const __grid_constant__ SeBackwardArgs args) {
#if __CUDA_ARCH__ >= 900
  using Ring = BlockRing<4, 1, Stages>;
  Ring& ring = *reinterpret_cast<Ring*>(block_memory());
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  ring.initialize();

  // 1. The mover. When a tile is done, the rows of the tile before it are complete.
  if (warp == computing_warps) {
    move_tiles<2>(
        ring, args.plan, args.documents,
        [&](int slot, int column, int token) {
          args.q.load(ring.rows[slot][q_input], column * block_channels, token, ring.full[slot]);
          args.k.load(ring.rows[slot][k_input], column * block_channels, token, ring.full[slot]);
          args.v.load(ring.rows[slot][v_input], column * block_channels, token, ring.full[slot]);
          args.d_y.load(ring.rows[slot][d_y_input], column * block_channels, token, ring.full[slot]);
        },
        [&](const TileCursor& at, int, int before) {
          if (at.tile == 0) return;
          const int token = token_of(args.plan, at.tile - 1, unit_tokens);
          const auto& rows = ring.rows[before];
          args.d_q.store(rows[q_input], at.column * block_channels, token);
          args.d_k.store(rows[k_input], at.column * block_channels, token);
          args.d_v.store(rows[v_input], at.column * block_channels, token);
        });
    return;
  }

  // 2. The computing warps. `now` are the eight rows of a tile, `before` the eight rows before them.
  constexpr int tensor_words = Ring::tile_tokens * block_channels / 2, row_words = block_channels / 2;
  struct Io {
    const std::uint32_t* now;
    std::uint32_t *results, *before;  // results: as now
    __device__ std::uint32_t load(int input, int i) const { return now[input * tensor_words + i * row_words]; }
    __device__ std::uint32_t load_earlier(int input, int i) const {
      return before[input * tensor_words + i * row_words];
    }
    __device__ void store_q(int i, std::uint32_t word) const {
      (i < 2 ? before + (i + 6) * row_words : results + (i - 2) * row_words)[q_input * tensor_words] = word;
    }
    __device__ void store_earlier(int input, int i, std::uint32_t word) const {
      before[input * tensor_words + i * row_words] = word;
    }
  };
  const int word = 32 * warp + lane;
  SeBackwardLane work;
  work.clear();
  work.clear_gradients();
  RingPosition<Stages> at;
#pragma unroll 1
  for (TileCursor cursor(args.plan, args.plan.range()); cursor.exists(); cursor.advance(), at.advance()) {
    std::uint32_t* const now = &ring.rows[at.slot][0][0][word];
    std::uint32_t* const before = &ring.rows[at.before()][0][0][word];
    if (cursor.begins_stretch()) {
      work.parameters.load(args.filter, cursor.column * block_channels + 2 * word);
      work.clear();
      for (int i = 0; i < unit_tokens; ++i)  // the rows before the stretch count as zeros
        before[k_input * tensor_words + i * row_words] = before[v_input * tensor_words + i * row_words] = 0;
    }
    if (cursor.tile == cursor.first) work.clear_gradients();
    ring.full[at.slot].wait(at.parity);
    work.compute(Io{now, now, before}, ring.starts[at.slot][0]);
    arrive_done(at.slot);
    if (cursor.ends_stretch())
      work.write_gradients(args.parts +
                           (std::int64_t{args.plan.range()} + cursor.column) * block_parameters * block_channels +
                           2 * word);
  }
#endif
}

}  // namespace

// Lower bound: read q, k, v, d_y, write d_q, d_k, d_v; 0.89 ms for L 65536, D 4096 on an H200.
void se_backward(const Stream& stream, const HyenaBlockBackward& args) {
  constexpr int stages = 7, blocks = 2;
  const HyenaBlockInputs& in = args.in;
  const std::int64_t reached = reached_rows(in);
  const auto map = [&](TensorView x, TensorView halo, std::int64_t part) {
    return RunMap(x, halo, part, reached, unit_tokens, block_channels, false);
  };
  const BlockPlan plan =
      BlockPlan::of(in, block_channels, unit_tokens, unit_tokens, 2 * unit_tokens, blocks * multiprocessors());
  const HaloGradient d_halo(stream, args, unit_tokens);
  const Tensor parts = parameter_parts(stream, plan, block_parameters);
  const SeBackwardArgs a{.q = map(in.q, in.halo, 0),
                         .k = map(in.k, in.halo, 1),
                         .v = map(in.v, in.halo, 2),
                         .d_y = map(args.d_y, {}, 0),
                         .d_q = d_halo.map(args.d_q, 0, unit_tokens, block_channels, false),
                         .d_k = d_halo.map(args.d_k, 1, unit_tokens, block_channels, false),
                         .d_v = d_halo.map(args.d_v, 2, unit_tokens, block_channels, false),
                         .filter = BlockFilter(in),
                         .documents = in.segments,
                         .plan = plan,
                         .parts = parts.view().row<float>(0)};
  launch_kernel<se_backward_kernel<stages, blocks>>(stream, plan.blocks, ring_threads, sizeof(BlockRing<4, 1, stages>),
                                                    a);
  d_halo.write(stream, args);
  add_parameters(stream, args, plan, block_parameters, a.parts, args.d_taps);
}

}  // namespace causeway::cuda::fused_block

#include "kernels/cuda/hyena_block/hyena_block_launch.cuh"
#include "kernels/cuda/hyena_block/hyena_block_ring.cuh"
#include "kernels/cuda/hyena_block/hyena_block_se.cuh"

namespace causeway::cuda::fused_block {
namespace {

struct SeForwardArgs {
  RunMap q, k, v, y;  ///< boxes of 8 tokens by 256 channels
  BlockFilter filter;
  SegmentsView documents;
  BlockPlan plan;
};

/// block: 256 channels, a range of tiles of 8 tokens (BlockPlan); 4 computing warps and a mover
/// warp: 64 channels; the mover: bulk copies in and out (hyena_block_ring.cuh)
/// thread: two channels, token after token
/// shared memory: a ring of `Stages` stages of 12 KiB; y replaces q'
/// registers: SeForwardLane
template <int Stages, int Blocks>
__global__ void __launch_bounds__(ring_threads, Blocks) se_forward_kernel(const __grid_constant__ SeForwardArgs args) {
#if __CUDA_ARCH__ >= 900
  using Ring = BlockRing<3, 1, Stages>;
  Ring& ring = *reinterpret_cast<Ring*>(block_memory());
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  ring.initialize();

  // 1. The mover.
  if (warp == computing_warps) {
    move_tiles<1>(
        ring, args.plan, args.documents,
        [&](int slot, int column, int token) {
          args.q.load(ring.rows[slot][q_input], column * block_channels, token, ring.full[slot]);
          args.k.load(ring.rows[slot][k_input], column * block_channels, token, ring.full[slot]);
          args.v.load(ring.rows[slot][v_input], column * block_channels, token, ring.full[slot]);
        },
        [&](const TileCursor& at, int slot, int) {
          const int token = token_of(args.plan, at.tile, unit_tokens);
          if (token >= 0) args.y.store(ring.rows[slot][q_input], at.column * block_channels, token);
        });
    return;
  }

  // 2. The computing warps. A stretch begins with the parameters of its channels and with rows of zeros.
  struct Io {
    std::uint32_t (*rows)[unit_tokens][block_channels / 2];
    int word;
    __device__ std::uint32_t load(int input, int i) const { return rows[input][i][word]; }
    __device__ void store(int i, std::uint32_t y) const { rows[q_input][i][word] = y; }
  };
  const int word = 32 * warp + lane;
  SeForwardLane work;
  work.clear();
  RingPosition<Stages> at;
#pragma unroll 1
  for (TileCursor cursor(args.plan, args.plan.range()); cursor.exists(); cursor.advance(), at.advance()) {
    if (cursor.begins_stretch()) {
      work.parameters.load(args.filter, cursor.column * block_channels + 2 * word);
      work.clear();
    }
    ring.full[at.slot].wait(at.parity);
    work.compute(Io{ring.rows[at.slot], word}, ring.starts[at.slot][0]);
    arrive_done(at.slot);
  }
#endif
}

}  // namespace

// Lower bound: read q, k, v, write y; 0.51 ms for L 65536, D 4096 on an H200.
void se_forward(const Stream& stream, const HyenaBlockForward& args) {
  constexpr int stages = 4, blocks = 4;
  const HyenaBlockInputs& in = args.in;
  const std::int64_t reached = reached_rows(in);
  const auto map = [&](TensorView x, TensorView halo, std::int64_t part) {
    return RunMap(x, halo, part, reached, unit_tokens, block_channels, false);
  };
  const SeForwardArgs a{
      .q = map(in.q, in.halo, 0),
      .k = map(in.k, in.halo, 1),
      .v = map(in.v, in.halo, 2),
      .y = map(args.y, {}, 0),
      .filter = BlockFilter(in),
      .documents = in.segments,
      .plan = BlockPlan::of(in, block_channels, unit_tokens, 0, most_reach, blocks * multiprocessors())};
  launch_kernel<se_forward_kernel<stages, blocks>>(stream, a.plan.blocks, ring_threads, sizeof(BlockRing<3, 1, stages>),
                                                   a);
}

}  // namespace causeway::cuda::fused_block

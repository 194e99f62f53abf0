#pragma once

#include "kernels/cuda/hyena_block/hyena_block_plan.cuh"

/// The ring of stages between global memory and the computing warps of a block. A mover warp fills stages with bulk
/// copies (TMA) and writes results from them; four warps compute in place.
///
/// A stage has one tile of each input, rows of `Channels` channels. `full[s]` completes when the copies of stage s have
/// landed; the hardware's barrier 1 + s, when the four warps have finished the tile that is in stage s. With `Delay` 1
/// the results of a tile are then complete; with 2 those of the tile before it. The mover waits at a hardware barrier
/// because a warp that tries a barrier in shared memory takes issue slots from the computing warp beside it.
namespace causeway::cuda::fused_block {

inline constexpr int computing_warps = 4;

template <int Tensors, int Units, int Stages_, int Channels = block_channels, int Words = 1,
          int Warps = computing_warps>
struct BlockRing {
  static constexpr int Stages = Stages_, words = Words, tile_tokens = Units * unit_tokens,
                       threads = 32 * (Warps + 1);  ///< the computing warps and the mover
  static_assert(Stages <= 15, "hardware barriers 1 to 15");
  static constexpr unsigned stage_bytes = Tensors * tile_tokens * Channels * 2;
  std::uint32_t rows[Stages][Tensors][tile_tokens][Channels / 2];
  SharedBarrier full[Stages];
  unsigned starts[Stages][Words];  ///< the words of StartReader, one for each tile_tokens / Words tokens

  /// By all threads of the block.
  __device__ void initialize() {
    if (threadIdx.x == 0) {
      for (int s = 0; s < Stages; ++s) full[s].initialize(1);
      fence_barrier_initialization();
    }
    __syncthreads();
  }
};

/// The first token of a tile of `tokens` tokens, before the run if it is of the halo.
__device__ inline int token_of(const BlockPlan& plan, int tile, int tokens) { return (tile - plan.lead) * tokens; }

/// A place in a ring, and the parity of its barriers' phase.
template <int Stages>
struct RingPosition {
  int slot = 0;
  unsigned parity = 0;
  __device__ void advance() {
    if (++slot < Stages) return;
    slot = 0;
    parity ^= 1;
  }
  __device__ int before() const { return slot == 0 ? Stages - 1 : slot - 1; }
};

inline constexpr int ring_threads = 32 * (computing_warps + 1);  ///< the computing warps and the mover

/// A computing warp has finished the tile in a stage: what its lanes wrote may be stored, and stages that they no
/// longer read filled. A warp comes to the same stage again only after the mover has filled it, so phases do not mix.
template <int threads = ring_threads>
__device__ void arrive_done(int slot) {
  fence_bulk_copies();
  __syncwarp();
  arrive_at_barrier<threads>(1 + slot);
}
/// The mover waits for that, or several movers; `threads` counts them too.
template <int threads = ring_threads>
__device__ void wait_done(int slot) {
  wait_at_barrier<threads>(1 + slot);
}

/// The work of the mover warp. `load(slot, column, token)` starts the copies of one tile, Ring::stage_bytes in all;
/// `store(tile, slot, slot_before)` starts the stores that are possible when a tile is done. Both by lane 0.
///
/// Order: done(j), stores of j, then the wait until the stores of j - 1 have read their stages, then tile
/// j - Delay + Stages is copied to the stage of tile j - Delay, which nobody reads or writes any more.
template <int Delay, class Ring, class Load, class Store>
__device__ void move_tiles(Ring& ring, const BlockPlan& plan, const SegmentsView& documents, const Load& load,
                           const Store& store) {
  constexpr int Stages = Ring::Stages, tokens = Ring::tile_tokens;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  TileCursor filling(plan, plan.range()), draining(plan, plan.range());
  RingPosition<Stages> to_fill, to_drain;
  StartReader starts(documents);
  const auto fill = [&] {
    if (!filling.exists()) return;
    const int token = token_of(plan, filling.tile, tokens);
    if (filling.begins_stretch()) starts.seek(token, lane);
    unsigned words[Ring::words];
#pragma unroll
    for (int w = 0; w < Ring::words; ++w)
      words[w] = starts.word(token + w * (tokens / Ring::words), tokens / Ring::words, lane);
    if (lane == 0) {
#pragma unroll
      for (int w = 0; w < Ring::words; ++w) ring.starts[to_fill.slot][w] = words[w];
      arrive_expecting(ring.full[to_fill.slot], Ring::stage_bytes);
      load(to_fill.slot, filling.column, token);
    }
    filling.advance();
    to_fill.advance();
  };
#pragma unroll 1
  for (int i = 0; i < Stages - Delay; ++i) fill();
#pragma unroll 1
  for (; draining.exists(); draining.advance(), to_drain.advance()) {
    wait_done<Ring::threads>(to_drain.slot);
    if (lane == 0) {
      if (draining.counts()) store(draining, to_drain.slot, to_drain.before());
      commit_box_stores();
      wait_for_box_reads<1>();
    }
    __syncwarp();
    fill();
  }
  if (lane == 0) wait_for_box_stores();
}

}  // namespace causeway::cuda::fused_block

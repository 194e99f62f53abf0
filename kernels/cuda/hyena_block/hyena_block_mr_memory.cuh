#pragma once

#include "kernels/cuda/hyena_block/hyena_block_mr_gradients.cuh"

/// The backward with tensor cores: its arguments, its shared memory, and the mover warp.
namespace causeway::cuda::fused_block {

inline constexpr int mr_parameters = 3 * featurizer_taps + 1;  ///< of a part: the featurizer's, then skip

struct MrBackwardArgs {
  RunMap q, k, v, d_y, d_q, d_k, d_v;  ///< boxes of 32 tokens by 64 channels, 128-byte swizzle
  BlockFilter filter;
  SegmentsView documents;
  BlockPlan plan;
  float* parts;      ///< [blocks + columns, mr_parameters, 64]
  float* lag_parts;  ///< [blocks + columns, 4 warps, Filters, 16 Blocks]
};

/// A warp's last tiles of x. The number of places is a power of two, so that one is found without a comparison.
template <int Blocks>
struct alignas(128) MrPast {
  static constexpr unsigned places = Blocks > 4 ? 16 : 4;
  unsigned char tiles[places][MrTileRows::bytes];
  /// The offset of the tile `back` tiles before the one at `place` (an offset).
  __device__ static unsigned before(unsigned place, int back) {
    return (place - static_cast<unsigned>(back) * MrTileRows::bytes) & (places * MrTileRows::bytes - 1);
  }
};

/// Stages of q' and d_y, and of k' and v': the latter stay until d_k' and d_v' have replaced them, `behind` + 1 stages
/// later.
template <int Blocks>
struct MrBackwardMemory {
  static constexpr int behind = (Blocks - 1) / 2, near_stages = 3, far_stages = behind + 3;
  /// Stages before a range: its first results are of `behind` + 1 stages earlier, which need two tokens more.
  static constexpr int warm_up = behind + 2;
  static_assert(far_stages <= 15, "hardware barriers 1 to 15");
  unsigned char near[near_stages][2][mr_tensor_bytes], far[far_stages][2][mr_tensor_bytes];
  MrPast<Blocks> past[computing_warps];  ///< the last tiles of x as [tokens, channels]
  SharedBarrier full[far_stages];
  unsigned starts[far_stages][2];
  /// HalfLagSums::write needs this much of a warp's past.
  static_assert(sizeof(MrPast<Blocks>) >= (mr_tile * 9 + mr_tile * (Blocks + 1)) * 4);
};

/// The mover. done(j): all warps have finished the first tile of stage j. Then d_q' of stage j - 1 and d_k', d_v' of
/// stage j - behind - 1 are complete; when their stores have read them, stage j + 2 is copied to their places.
template <int Blocks>
__device__ inline void mr_backward_mover(const MrBackwardArgs& args, MrBackwardMemory<Blocks>& memory, int lane) {
  using Memory = MrBackwardMemory<Blocks>;
  TileCursor filling(args.plan, args.plan.range()), draining(args.plan, args.plan.range());
  RingPosition<Memory::far_stages> to_fill, to_drain;
  int near = 0, near_before = Memory::near_stages - 1, far_before = 2;  // far: -1 - behind, modulo behind + 3
  StartReader starts(args.documents);
  const auto fill = [&] {
    if (!filling.exists()) return;
    const int token = token_of(args.plan, filling.tile, mr_stage_tokens), slot = to_fill.slot,
              column = filling.column * mr_channels;
    if (filling.begins_stretch()) starts.seek(token, lane);
    // A column begins as a document does: its first tile does not reach the rows before it, which are not in memory.
    const unsigned begins = filling.tile == 0 ? 1u << 16 : 0;
    const unsigned first = starts.word(token, mr_tile, lane) | begins,
                   second = starts.word(token + mr_tile, mr_tile, lane);
    if (lane == 0) {
      memory.starts[slot][0] = first, memory.starts[slot][1] = second;
      arrive_expecting(memory.full[slot], 4 * mr_tensor_bytes);
      args.k.load(memory.far[slot][0], column, token, memory.full[slot]);
      args.v.load(memory.far[slot][1], column, token, memory.full[slot]);
      args.q.load(memory.near[near][0], column, token, memory.full[slot]);
      args.d_y.load(memory.near[near][1], column, token, memory.full[slot]);
    }
    filling.advance();
    to_fill.advance();
    near = near == Memory::near_stages - 1 ? 0 : near + 1;
  };
  fill();
  fill();
#pragma unroll 1
  for (; draining.exists(); draining.advance(), to_drain.advance()) {
    wait_done(to_drain.slot);
    if (lane == 0) {
      if (draining.counts()) {
        const int column = draining.column * mr_channels, tile = draining.tile - 1,
                  earlier_tile = tile - Memory::behind, token = token_of(args.plan, tile, mr_stage_tokens),
                  earlier = token_of(args.plan, earlier_tile, mr_stage_tokens);
        if (tile >= 0 && token < args.documents.tokens) args.d_q.store(memory.near[near_before][0], column, token);
        if (earlier_tile >= 0 && earlier < args.documents.tokens) {
          args.d_k.store(memory.far[far_before][0], column, earlier);
          args.d_v.store(memory.far[far_before][1], column, earlier);
        }
      }
      commit_box_stores();
      wait_for_box_reads<0>();
    }
    __syncwarp();
    fill();
    near_before = near_before == Memory::near_stages - 1 ? 0 : near_before + 1;
    far_before = far_before == Memory::far_stages - 1 ? 0 : far_before + 1;
  }
  if (lane == 0) wait_for_box_stores();
}

}  // namespace causeway::cuda::fused_block

#pragma once

#include "kernels/cuda/hyena_block/hyena_block_mr_gradients.cuh"

/// The backward with tensor cores: its arguments, its shared memory, and the mover warp.
namespace causeway::cuda::fused_block {

inline constexpr int mr_parameters = 3 * featurizer_taps + 1;  ///< of a part: the featurizer's, then skip

struct MrBackwardArgs {
  RunMap q, k, v, d_y, d_q, d_k, d_v;  ///< boxes of 32 tokens by the channels of MrForm
  BlockFilter filter;
  SegmentsView documents;
  BlockPlan plan;
  ChannelWindows windows;
  RunRows inputs[4], results[3];  ///< q, k, v, d_y; d_q, d_k, d_v; for MrLayout::words
  float* parts;                   ///< [blocks + columns, mr_parameters, places]
  float* lag_parts;               ///< [blocks + columns, warps, 16 Blocks]
};

/// A warp's last tiles of x, [tokens, channels]. A place is an offset. The number of places is a power of two, so that
/// one is found without a comparison.
template <int Blocks>
struct alignas(128) MrPast {
  static constexpr unsigned bytes = MrTileRows::bytes, places = Blocks > 4 ? 16 : 4;
  unsigned char tiles[places][bytes];
  /// The place of the tile `back` tiles before the one at `place`.
  __device__ static unsigned before(unsigned place, int back) {
    return (place - static_cast<unsigned>(back) * bytes) & (places * bytes - 1);
  }
  /// lane: the address of the lane's row at place 0.
  __device__ static void clear(unsigned lane) {
    const std::uint32_t zeros[4] = {};
    for (unsigned b = 0; b < places; ++b) stmatrix_x4_transposed(lane + b * bytes, zeros);
  }
};

/// Stages of q' and d_y, and of k' and v': the latter stay until d_k' and d_v' have replaced them, `behind` + 1 stages
/// later.
template <int Blocks, MrLayout Layout>
struct MrBackwardMemory {
  using Form = MrForm<Layout>;
  static constexpr int behind = (Blocks - 1) / 2, near_stages = 3, far_stages = behind + 3;
  /// Stages before a range: its first results are of `behind` + 1 stages earlier, which need two tokens more.
  static constexpr int warm_up = behind + 2;
  static_assert(far_stages <= 15, "hardware barriers 1 to 15");
  unsigned char near[near_stages][2][Form::tensor_bytes], far[far_stages][2][Form::tensor_bytes];
  MrPast<Blocks> past[Form::warps];
  SharedBarrier full[far_stages];
  unsigned starts[far_stages][2];
  /// HalfLagSums::write needs this much of a warp's past.
  static_assert(sizeof(MrPast<Blocks>) >= (mr_tile * 9 + mr_tile * (Blocks + 1)) * 4);
};

/// Where the results are when the first tile of a stage is done: d_q' of the stage before it, and d_k', d_v' of the one
/// `behind` + 1 before it.
template <int Blocks>
struct MrDrain {
  using Memory = MrBackwardMemory<Blocks, MrLayout::whole>;  // all layouts have as many stages
  TileCursor cursor;
  RingPosition<Memory::far_stages> done;
  int near = Memory::near_stages - 1, far = 2;  // far: -1 - behind, modulo behind + 3

  __device__ explicit MrDrain(const MrBackwardArgs& args) : cursor(args.plan, args.plan.range()) {}
  __device__ void advance() {
    cursor.advance();
    done.advance();
    near = near == Memory::near_stages - 1 ? 0 : near + 1;
    far = far == Memory::far_stages - 1 ? 0 : far + 1;
  }
  /// Calls body(token) if the results of `input` are of this block's range and of the run or the rows before it.
  template <class Body>
  __device__ void with_token(const MrBackwardArgs& args, int input, const Body& body) const {
    const int tile = cursor.tile - 1 - (input == q_input ? 0 : Memory::behind),
              token = token_of(args.plan, tile, mr_stage_tokens);
    if (cursor.counts() && tile >= 0 && token < args.documents.tokens) body(token);
  }
};

/// The words of starts of a stage, in the order of the stages.
struct MrStarts {
  StartReader reader;
  __device__ explicit MrStarts(const SegmentsView& documents) : reader(documents) {}
  __device__ void write(unsigned (&to)[2], const TileCursor& filling, int token, int lane) {
    if (filling.begins_stretch()) reader.seek(token, lane);
    // A column begins as a document does: its first tile does not reach the rows before it, which are not in memory.
    const unsigned begins = filling.tile == 0 ? 1u << 16 : 0;
    const unsigned first = reader.word(token, mr_tile, lane) | begins,
                   second = reader.word(token + mr_tile, mr_tile, lane);
    if (lane == 0) to[0] = first, to[1] = second;
  }
};

/// The mover. done(j): all warps have finished the first tile of stage j. When the stores of what is complete then have
/// read it, stage j + 2 is copied to its places.
template <int Blocks, MrLayout Layout>
__device__ inline void mr_backward_mover(const MrBackwardArgs& args, MrBackwardMemory<Blocks, Layout>& memory,
                                         int lane) {
  using Memory = MrBackwardMemory<Blocks, Layout>;
  using Form = MrForm<Layout>;
  TileCursor filling(args.plan, args.plan.range());
  MrDrain<Blocks> drain(args);
  RingPosition<Memory::far_stages> to_fill;
  int near = 0;
  MrStarts starts(args.documents);
  const auto fill = [&] {
    if (!filling.exists()) return;
    const int token = token_of(args.plan, filling.tile, mr_stage_tokens), slot = to_fill.slot,
              column = filling.column * Form::channels;
    starts.write(memory.starts[slot], filling, token, lane);
    if (lane == 0) {
      arrive_expecting(memory.full[slot], 4 * Form::tensor_bytes);
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
  for (; drain.cursor.exists(); drain.advance()) {
    wait_done<32 * (Form::warps + 1)>(drain.done.slot);
    if (lane == 0) {
      const int column = drain.cursor.column * Form::channels;
      drain.with_token(args, q_input, [&](int token) { args.d_q.store(memory.near[drain.near][0], column, token); });
      drain.with_token(args, k_input, [&](int token) {
        args.d_k.store(memory.far[drain.far][0], column, token);
        args.d_v.store(memory.far[drain.far][1], column, token);
      });
      commit_box_stores();
      wait_for_box_reads<0>();
    }
    __syncwarp();
    fill();
  }
  if (lane == 0) wait_for_box_stores();
}

/// With MrLayout::words four warps copy, each one tensor: an input and its gradient, or d_y (input 3).
inline constexpr int mr_narrow_threads = 32 * 2 * computing_warps, mr_narrow_arrivals = 32 * 4 + 1;

/// Gradient: the tensor has one. The warp of d_y writes the words of starts.
template <int Blocks, bool Gradient>
__device__ inline void mr_backward_narrow_mover(const MrBackwardArgs& args,
                                                MrBackwardMemory<Blocks, MrLayout::words>& memory, int input,
                                                int lane) {
  using Memory = MrBackwardMemory<Blocks, MrLayout::words>;
  const bool far = Gradient && input != q_input;
  // Where the tensor is in the first stage, and from a stage to the next.
  const unsigned first =
      far ? shared_address(memory.far[0][input == v_input ? 1 : 0]) : shared_address(memory.near[0][Gradient ? 0 : 1]);
  constexpr unsigned stage_bytes = 2 * Memory::Form::tensor_bytes;
  TileCursor filling(args.plan, args.plan.range());
  MrDrain<Blocks> drain(args);
  RingPosition<Memory::far_stages> to_fill;
  int near = 0;
  MrStarts starts(args.documents);
  WindowWord word(args.windows, args.filter.channels, filling.column, lane);
  const auto at_column = [&](int column) {
    if (word.column != column) word = WindowWord(args.windows, args.filter.channels, column, lane);
  };
  const auto fill = [&] {
    if (!filling.exists()) return;
    const int token = token_of(args.plan, filling.tile, mr_stage_tokens), slot = to_fill.slot;
    if constexpr (!Gradient) {
      starts.write(memory.starts[slot], filling, token, lane);
      if (lane == 0) memory.full[slot].arrive();
    }
    at_column(filling.column);
    word.load(first + static_cast<unsigned>(far ? slot : near) * stage_bytes, args.inputs[input], token,
              args.documents.tokens);
    memory.full[slot].arrive_with_copies();
    filling.advance();
    to_fill.advance();
    near = near == Memory::near_stages - 1 ? 0 : near + 1;
  };
  fill();
  fill();
#pragma unroll 1
  for (; drain.cursor.exists(); drain.advance()) {
    wait_done<mr_narrow_threads>(drain.done.slot);
    if constexpr (Gradient)
      drain.with_token(args, input, [&](int token) {
        at_column(drain.cursor.column);
        word.write(args.results[input], first + static_cast<unsigned>(far ? drain.far : drain.near) * stage_bytes,
                   token, args.documents.tokens);
      });
    __syncwarp();
    fill();
  }
}

}  // namespace causeway::cuda::fused_block

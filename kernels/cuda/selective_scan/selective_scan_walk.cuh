#pragma once

#include <type_traits>

#include "kernels/cuda/device/barrier.cuh"
#include "kernels/cuda/device/tensor_core.cuh"
#include "kernels/cuda/selective_scan/selective_scan.cuh"

/// The layout of the walk (selective_scan_walk.cu): what a block of threads holds and how its warps meet.
///
///   tile    32 tokens of the block's channels
///   group   8 tokens of a tile, which one warp computes before the next warp takes its turn
///   part    the lanes of a channel share its states: four lanes with four neighbouring states each
///   unit    32 lanes: two parts of 16 channels; `turns` warps take turns to compute the unit's states
///   set     the row warps that convert and write one tile; the sets take turns, tile by tile
///   slot    the place of a channel in shared memory: first the even channels of the block, then the odd ones, so that
///           a row lane, which holds two neighbouring channels, has no bank conflicts
namespace causeway::cuda {

inline constexpr int walk_tile = 32, walk_group = 8, walk_groups = walk_tile / walk_group, walk_states = 16;
static_assert(selective_scan_block % walk_group == 0 && walk_tile % selective_scan_block == 0);

template <int Channels, int Turns>
struct WalkShape {
  static constexpr int channels = Channels, turns = Turns;
  static constexpr int lane_states = 4, parts = walk_states / lane_states, unit_channels = 16, unit_parts = 2;
  static constexpr int units = channels / unit_channels * (parts / unit_parts), scan_warps = units * turns;
  static constexpr int sets = 2, set_warps = channels / 8, threads = 32 * (scan_warps + sets * set_warps);
  static constexpr int stages = 4;                                 ///< tiles between the row warps' two steps
  static constexpr int ahead = 2;                                  ///< tiles that a set reads before it needs them
  static constexpr int raw = stages / sets + ahead;                ///< tiles of a set as they were read
  static constexpr int entries = (4 + set_warps - 1) / set_warps;  ///< packets of B and C that a row lane loads
  // The hardware's barriers: scan warp w arrives at barrier w, the warps of a set meet at one of the next two.
  static constexpr int set_barrier = scan_warps;
  static_assert(set_barrier + sets <= 16 && channels % unit_channels == 0);
};

template <class Shape>
struct WalkMemory {
  /// Eight tokens in float32. A quad is four tokens of one channel. Without the padding, accesses to the two parts of a
  /// unit, or to B and C, would have bank conflicts.
  struct Group {
    Quad<float> delta[walk_group / 4][Shape::channels];
    Quad<float> x[walk_group / 4][Shape::channels];  ///< Δu
    float B[walk_group][walk_states];
    std::uint32_t starts, padding[3];  ///< bit k: token k starts a document
    float C[walk_group][walk_states];
    Quad<float> y[Shape::parts][walk_group / 4 * Shape::channels + 4];  ///< ⟨C, h⟩ over the states of a part
  };
  /// A set's tile as it was read: pairs of bf16. The fifth row of four tokens is padding.
  struct Raw {
    std::uint32_t delta[walk_tile / 4][5][Shape::channels / 2], u[walk_tile / 4][5][Shape::channels / 2],
        z[walk_tile / 4][5][Shape::channels / 2];
    uint4 entries[Shape::entries][32 * Shape::set_warps];  ///< B and C
  };
  Group group[Shape::stages * walk_groups];
  Raw raw[Shape::sets][Shape::raw];
  Quad<float> handoff[Shape::units][32];                   ///< the states between two turns
  SharedBarrier full[Shape::stages], done[Shape::stages];  ///< a tile's inputs, and its y, are complete
};

/// What a walk reads and writes besides ScanInputs.
struct WalkRun {
  std::int64_t piece_tokens;                             ///< tokens that one block walks over; a multiple of walk_tile
  const float* enter;                                    ///< the state that enters a piece; null: zero
  std::int64_t enter_piece, enter_state, enter_channel;  ///< its strides
  bf16* y;
  float* saved;  ///< [blocks of tokens][N][channels]; null: not saved
  std::int64_t y_stride, saved_stride;
};

/// The tokens of a block's piece.
struct WalkPiece {
  std::int64_t begin;
  int tokens, tiles;

  __device__ WalkPiece(std::int64_t piece_tokens, std::int64_t all)
      : begin(blockIdx.y * piece_tokens),
        tokens(static_cast<int>(min(piece_tokens, all - begin))),
        tiles((tokens + walk_tile - 1) / walk_tile) {}
};

/// The object that is `bytes` behind x: for rings of equal objects, so that an access needs one addition for its place.
template <class X>
__device__ X& displaced(X& x, unsigned bytes) {
  using Byte = std::conditional_t<std::is_const_v<X>, const unsigned char, unsigned char>;
  return *reinterpret_cast<X*>(reinterpret_cast<Byte*>(&x) + bytes);
}

}  // namespace causeway::cuda

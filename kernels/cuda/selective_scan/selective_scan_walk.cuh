#pragma once

#include <type_traits>

#include "kernels/cuda/device/barrier.cuh"
#include "kernels/cuda/device/tensor_core.cuh"
#include "kernels/cuda/selective_scan/selective_scan.cuh"
#include "kernels/cuda/selective_scan/selective_scan_pieces.hpp"

/// The layout of the walk (selective_scan_walk.cu): what a block of threads holds and how its warps meet.
///
///   tile    `tile` tokens of the block's channels
///   group   8 tokens of a tile, which one warp computes; with turns, the next warp then takes its turn
///   part    the lanes of a channel share its states: four neighbouring states each
///   unit    the 32 lanes of a warp: 16 channels by two parts; `turns` warps take turns to compute the unit's states.
///           With one turn the states stay in the warp's registers, no warp waits for another one, and a lane has two
///           neighbouring channels
///   set     the row warps that convert and write one tile; the sets take turns, tile by tile
///   slot    the place of a channel in shared memory: first the even channels of the block, then the odd ones, so that
///           a row lane, which holds two neighbouring channels, has no bank conflicts
namespace causeway::cuda {

inline constexpr int walk_group = 8;
static_assert(selective_scan_block % walk_group == 0);

template <int Channels, int States, int Turns, int Tile>
struct WalkShape {
  static constexpr int channels = Channels, states = States, turns = Turns, tile = Tile;
  static constexpr int groups = tile / walk_group, lane_states = 4, parts = states / lane_states;
  static constexpr int lane_channels = turns == 1 ? 2 : 1, unit_parts = 2, unit_channels = 16 * lane_channels,
                       channel_units = parts / unit_parts;  ///< units that share their channels
  static constexpr int units = channels / unit_channels * channel_units, scan_warps = units * turns;
  static constexpr bool short_tiles = states == 16 && tile == 16;  ///< more sets have more time for one
  static constexpr int sets = turns == 1 || short_tiles ? 4 : 2, set_lanes = channels / 2 * (tile / 4),
                       set_warps = set_lanes / 32, threads = 32 * scan_warps + sets * set_lanes;
  static constexpr int stages = short_tiles ? 8 : 4;  ///< tiles between the row warps' two steps
  static constexpr int ahead = turns == 1 ? 1 : 2;    ///< tiles that a set reads before it needs them
  static constexpr int raw = stages / sets + ahead;   ///< tiles of a set as they were read
  static constexpr int token_packets = states / 4;    ///< packets of B and C of a token
  static constexpr int entries = (tile * token_packets + set_lanes - 1) / set_lanes;  ///< packets that a row lane loads
  // With turns, scan warp w arrives at the hardware's barrier w, of which there are 16.
  static_assert(turns == 1 || scan_warps <= 16);
  static_assert(channels % unit_channels == 0 && parts % unit_parts == 0);
  static_assert(set_lanes % 32 == 0 && tile % selective_scan_block == 0);
};

template <class Shape>
struct WalkMemory {
  /// Eight tokens in float32. A quad is four tokens of one channel. Without the padding, accesses to B and C would have
  /// bank conflicts.
  struct Group {
    Quad<float> delta[walk_group / 4][Shape::channels];
    Quad<float> x[walk_group / 4][Shape::channels];  ///< Δu
    float B[walk_group][Shape::states];
    std::uint32_t starts, padding[3];  ///< bit k: token k starts a document
    float C[walk_group][Shape::states];
    Quad<float> y[Shape::parts][walk_group / 4][Shape::channels];  ///< ⟨C, h⟩ over the states of a part, by y_slot()
  };
  /// A set's tile as it was read: pairs of bf16. The fifth row of four tokens is padding.
  struct Raw {
    std::uint32_t delta[Shape::tile / 4][5][Shape::channels / 2], u[Shape::tile / 4][5][Shape::channels / 2],
        z[Shape::tile / 4][5][Shape::channels / 2];
  };
  /// B and C of a set's tile as they were read. The lane that reads a packet converts it.
  struct RawEntries {
    uint4 packets[Shape::entries][Shape::set_lanes];
  };
  Group group[Shape::stages * Shape::groups];
  Raw raw[Shape::sets][Shape::raw];
  RawEntries entries[Shape::sets][Shape::ahead];
  Quad<float> handoff[Shape::turns > 1 ? Shape::units : 1][32];  ///< the states between two turns
  SharedBarrier full[Shape::stages], done[Shape::stages];        ///< a tile's inputs, and its y, are complete
  SharedBarrier read[Shape::sets];                               ///< a set has read a tile's inputs
};

/// What a walk reads and writes besides ScanInputs.
struct WalkRun {
  RunPieces pieces;            ///< one for each blockIdx.y
  PieceStates enter;           ///< the states that enter them
  float* leave;                ///< the state that leaves the run, [channels][N]; or null
  std::int64_t leave_channel;  ///< its stride
  bf16* y;
  float* saved;  ///< [blocks of tokens][N][channels]; null: not saved
  std::int64_t y_stride, saved_stride;
};

/// The tokens of a block's piece, in tiles of `tile` tokens. Tiles begin where states are saved, so the first one may
/// hold tokens before the piece, and the last one tokens after it: they leave the state as it is, and their y is not
/// written.
struct WalkPiece {
  std::int64_t begin;         ///< of the first tile
  int before, tokens, tiles;  ///< tokens of the first tile before the piece; tokens from `begin` to the piece's end

  __device__ WalkPiece(const RunPieces& pieces, int tile)
      : begin(pieces.begin[blockIdx.y] / selective_scan_block * selective_scan_block),
        before(static_cast<int>(pieces.begin[blockIdx.y] - begin)),
        tokens(static_cast<int>(pieces.end[blockIdx.y] - begin)),
        tiles((tokens + tile - 1) / tile) {}
};

/// A lane of a scan warp. The shuffles hide from the compiler how the values were computed: it would compute them again
/// within a turn.
template <class Shape>
struct ScanLane {
  int lane = static_cast<int>(threadIdx.x) % 32, warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
  int unit = warp % Shape::units, turn = warp / Shape::units;
  // Lanes 2k and 2k + 1 read the same Δ and u, and all lanes two different quads of B and C, in two cycles.
  int part = unit % Shape::channel_units * Shape::unit_parts + lane % Shape::unit_parts,
      slot = unit / Shape::channel_units * 16 + lane / Shape::unit_parts;  ///< of the lane's first channel

  /// The place of its ⟨C, h⟩: with it, neighbouring parts are written to different banks.
  __device__ int y_slot() const { return slot ^ part % 2 * 4; }
  __device__ int first_state() const { return part * Shape::lane_states; }
  __device__ std::int64_t channel() const {
    return std::int64_t{blockIdx.x} * Shape::channels + 2 * slot % Shape::channels + 2 * slot / Shape::channels;
  }
};

/// The object that is `bytes` behind x: for rings of equal objects, so that an access needs one addition for its place.
template <class X>
__device__ X& displaced(X& x, unsigned bytes) {
  using Byte = std::conditional_t<std::is_const_v<X>, const unsigned char, unsigned char>;
  return *reinterpret_cast<X*>(reinterpret_cast<Byte*>(&x) + bytes);
}

}  // namespace causeway::cuda

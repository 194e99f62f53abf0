#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/blocked_conv/blocked_conv.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/tensor_core.cuh"

/// The tensor-core form of the convolution. A warp takes 16 channels of one group down a strip of tokens, a tile of 16
/// tokens at a time: y_n = Σ_b x_{n-b} H_b with tiles x [16 channels, 16 tokens] and Toeplitz blocks (H_b)_{ji} =
/// h[16 b + i - j]. What the filter reaches back of x stands in registers, 4 a tile, and so does the filter: a lane's
/// part of H_b depends on 16 b + i - j alone, so that neighbouring blocks share it, 19 registers for 128 taps. Walking
/// left, a tile's tokens count from the right: then the blocks are the same.
///
/// The warps of a block take neighbouring channels, so that memory is read and written by whole lines: tiles of 64 or
/// 128 channels arrive in shared memory some ahead, one 16-byte copy a thread, and results leave the same way, a tile
/// later, when the barrier that hands over the next tile has seen all warps through.
///
/// Where a document begins, the tiles before are dropped by writing zeros, and a tile that holds an edge is multiplied
/// once for every document in it, each time from that document's tokens only: what is inside of a document is
/// mask-free, and nothing of one document ever meets another's. Within one, a NaN or an infinity may spoil tokens that
/// it does not reach, since H_b holds zeros there: all from its own tile's first, up to 15 before it, to the last of
/// the tiles that some H_b links with it. These blocks are 2, 3, 5 or 9, no fewer than the taps touch: that may be 60
/// and more tokens beyond the filter.
///
/// The filter is rounded to bf16 where it comes in float32, as q⊙d_y is; sums, skip and gates are in float32.
namespace causeway::cuda {

inline constexpr int conv_tile = 16;
inline constexpr std::int64_t most_conv_taps = 129;

/// Toeplitz blocks that `taps` taps touch.
constexpr int conv_blocks(std::int64_t taps) { return static_cast<int>(ceil_div(taps - 1, conv_tile)) + 1; }

/// Calls body<Blocks>() with no fewer Toeplitz blocks than the taps touch.
template <class Body>
void with_conv_blocks(std::int64_t taps, const Body& body) {
  const int blocks = conv_blocks(taps);
  if (blocks <= 2)
    body.template operator()<2>();
  else if (blocks <= 3)
    body.template operator()<3>();
  else if (blocks <= 5)
    body.template operator()<5>();
  else
    body.template operator()<conv_blocks(most_conv_taps)>();
}

/// How tokens are cut into strips, and channels into blocks of `tiles_across` tiles.
struct StripPlan {
  std::int64_t tiles, channel_tiles, across, strip_tiles, strips;

  /// Strips of at most `longest` tiles: a longer one looks back at less that is not its own, but 256 blocks are what an
  /// H200 holds at once of those that fill a half of a multiprocessor.
  StripPlan(std::int64_t tokens, std::int64_t channels, int tiles_across, std::int64_t longest)
      : tiles(ceil_div(tokens, conv_tile)),
        channel_tiles(channels / conv_tile),
        across(ceil_div(channel_tiles, tiles_across)),
        strip_tiles(std::clamp<std::int64_t>(tiles * across / 256, 16, longest)),
        strips(ceil_div(tiles, strip_tiles)) {}
  unsigned grid() const { return grid_of(across * strips); }
};

/// A block's tile in shared memory, 16 tokens by the channels of `Across` warps. The parts of a row, 8 channels each,
/// trade places, so that the eight rows of a matrix lie in eight different banks.
template <int Across>
struct BlockTile {
  static constexpr int row_parts = 2 * Across, copies = conv_tile * row_parts, bytes = copies * 16;

  __device__ static unsigned place(int token, int part) {
    return static_cast<unsigned>((token * row_parts + (part ^ (token % 8))) * 16);
  }
  /// The row of a warp's tile that a lane names to ldmatrix_x4<true>, for tiles [channels, tokens].
  __device__ static unsigned channels_by_tokens(ScanDirection direction, int which, int lane) {
    const int token = lane % 8 + lane / 16 * 8;
    return place(direction == ScanDirection::left_to_right ? token : conv_tile - 1 - token, 2 * which + lane / 8 % 2);
  }
  /// The same to ldmatrix_x4<false>, for tiles [tokens, channels].
  __device__ static unsigned tokens_by_channels(int which, int lane) { return place(lane % 16, 2 * which + lane / 16); }
};

/// Where a thread works: its warp's channels, and what it copies of each tile.
template <int Across>
struct StripPlace {
  int lane, which, role, row;  ///< role: of several warps with the same channels
  std::int64_t strip, tile, channel, column;
  unsigned copied;
  bool exists, inside;  ///< the warp's channels, the thread's columns; what does not exist goes along with zeros

  __device__ explicit StripPlace(const StripPlan& plan)
      : lane(static_cast<int>(threadIdx.x) % 32),
        which(static_cast<int>(threadIdx.x) / 32 % Across),
        role(static_cast<int>(threadIdx.x) / 32 / Across),
        row(static_cast<int>(threadIdx.x) % BlockTile<Across>::copies / BlockTile<Across>::row_parts),
        strip(blockIdx.x / plan.across),
        tile(blockIdx.x % plan.across * Across + which),
        channel(tile * conv_tile + lane / 4) {
    const int part = static_cast<int>(threadIdx.x) % BlockTile<Across>::row_parts;
    column = blockIdx.x % plan.across * Across * conv_tile + part * 8;
    copied = BlockTile<Across>::place(row, part);
    exists = tile < plan.channel_tiles;
    inside = column < plan.channel_tiles * conv_tile;
  }
};

/// The documents' edges along a walk: which tokens of a tile, counted in the walk's direction, are the first of a
/// document.
template <ScanDirection direction>
class Edges {
 public:
  /// Before the walk's first tile. A warp calls it together.
  __device__ Edges(const SegmentsView& segments, std::int64_t first_tile, int lane)
      : entries_(segments.cu_seqlens), count_(segments.count) {
    if constexpr (direction == ScanDirection::left_to_right)
      index_ = warp_upper_bound(entries_, count_ + 1, first_tile * conv_tile - 1, lane);
    else
      index_ = warp_upper_bound(entries_, count_ + 1, (first_tile + 1) * conv_tile, lane) - 1;
    fetch();
  }
  /// Bit i: a document begins with token i of this tile, the next of the walk.
  __device__ unsigned of_tile(std::int64_t tile) {
    unsigned bits = 0;
    if constexpr (direction == ScanDirection::left_to_right) {
      for (; next_ < (tile + 1) * conv_tile; ++index_, fetch()) bits |= 1u << (next_ - tile * conv_tile);
    } else {
      for (; next_ > tile * conv_tile; --index_, fetch()) bits |= 1u << ((tile + 1) * conv_tile - next_);
    }
    return bits;
  }

 private:
  __device__ void fetch() {
    constexpr std::int64_t never = direction == ScanDirection::left_to_right ? INT64_MAX : INT64_MIN;
    next_ = index_ >= 0 && index_ <= count_ ? entries_[index_] : never;
  }
  const std::int64_t* entries_;
  std::int64_t count_, index_, next_;
};

/// Tokens of a tile before its first edge.
__device__ inline int tokens_before(unsigned edges) {
  return edges == 0 ? conv_tile : __ffs(static_cast<int>(edges)) - 1;
}
/// Calls body(low, high) for every document that begins in the tile: its tokens there.
template <class Body>
__device__ void for_each_start(unsigned edges, const Body& body) {
  for (unsigned rest = edges; rest != 0; rest &= rest - 1) body(tokens_before(rest), tokens_before(rest & (rest - 1)));
}

/// The tokens [low, high) of a tile [channels, tokens], zeros elsewhere.
__device__ inline void keep_columns(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], int low, int high, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = 8 * half + 2 * (lane % 4);
    const std::uint32_t mask =
        (token >= low && token < high ? 0xffffu : 0u) | (token + 1 >= low && token + 1 < high ? 0xffff0000u : 0u);
    to[2 * half] = x[2 * half] & mask;
    to[2 * half + 1] = x[2 * half + 1] & mask;
  }
}
/// The same of a tile [tokens, channels].
__device__ inline void keep_rows(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], int low, int high, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = lane / 4 + i % 2 * 8;
    to[i] = token >= low && token < high ? x[i] : 0;
  }
}

template <int count>
__device__ void multiply_pairs(std::uint32_t (&x)[count], const std::uint32_t (&by)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) x[i] = multiply_bf16_pairs(x[i], by[i]);
}

/// The Toeplitz blocks of a group's filter.
template <int Blocks>
class ToeplitzFilter {
 public:
  __device__ ToeplitzFilter(const Parameter<bf16>& taps, std::int64_t group, std::int64_t length, int lane) {
    const auto tap = [&](int lag) { return lag >= 0 && lag < length ? taps(group, lag) : 0.0f; };
#pragma unroll
    for (int i = 0; i < 2 * Blocks + 1; ++i) {
      const int lag = 8 * (i - 1) + lane / 4 - 2 * (lane % 4);
      pairs_[i] = pack_bf16(tap(lag), tap(lag - 1));
    }
  }
  /// sum += x H_block.
  __device__ void multiply(float (&sum)[2][4], const std::uint32_t (&x)[4], int block) const {
    mma_16x8x16(sum[0], x, pairs_[2 * block + 1], pairs_[2 * block]);
    mma_16x8x16(sum[1], x, pairs_[2 * block + 2], pairs_[2 * block + 1]);
  }
  /// The columns [low, high) of sum become those of x H_0.
  __device__ void replace(float (&sum)[2][4], const std::uint32_t (&x)[4], int low, int high, int lane) const {
    float alone[2][4] = {};
    multiply(alone, x, 0);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = 8 * n + 2 * (lane % 4) + e % 2;
        if (token >= low && token < high) sum[n][e] = alone[n][e];
      }
  }

 private:
  std::uint32_t pairs_[2 * Blocks + 1];
};

/// sum += skip⊙x, channel by channel; sums of a tile [channels, tokens] and the tile itself lie alike.
__device__ inline void add_skip(float (&sum)[2][4], const float (&skip)[2], const std::uint32_t (&x)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum[i / 2][i % 2 * 2] += skip[i % 2] * low_bf16(x[i]);
    sum[i / 2][i % 2 * 2 + 1] += skip[i % 2] * high_bf16(x[i]);
  }
}
/// gate⊙sum, rounded.
__device__ inline void round_gated(std::uint32_t (&to)[4], const float (&sum)[2][4], bool gated,
                                   const std::uint32_t (&gate)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float first = sum[i / 2][i % 2 * 2], second = sum[i / 2][i % 2 * 2 + 1];
    to[i] = gated ? pack_bf16(low_bf16(gate[i]) * first, high_bf16(gate[i]) * second) : pack_bf16(first, second);
  }
}

/// 16 bytes of a row from shared memory, not to be read again soon.
__device__ inline void write_row(bf16* to, unsigned from) {
  uint4 word;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "r"(from)
               : "memory");
  __stcs(reinterpret_cast<uint4*>(to), word);
}

}  // namespace causeway::cuda

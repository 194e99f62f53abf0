#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/blocked_conv/blocked_conv.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/tensor_core.cuh"
#include "kernels/cuda/device/tile_documents.cuh"

/// The convolution on tensor cores. A warp has 16 channels of one group and goes down a strip of tokens, one tile of 16
/// tokens at a time: y_n = Σ_b x_{n-b} H_b with tiles x [16 channels, 16 tokens] and Toeplitz blocks
/// (H_b)_{ji} = h[16 b + i - j]. The tiles of x that the filter reaches back to are in registers, 4 per tile. The
/// filter is in registers too: the part of H_b in a lane depends on 16 b + i - j only, so that neighbouring blocks
/// share it, and 128 taps take 19 registers. In the scan direction from right to left the tokens of a tile are numbered
/// from the right; then the Toeplitz blocks are the same.
///
/// The warps of a block have neighbouring channels, so that whole cache lines are read and written. Tiles of 64 or 128
/// channels are prefetched to shared memory, one 16-byte copy for each thread. The results are written one tile later,
/// after the barrier for the next tile, which all warps have passed.
///
/// At the start of a document the tiles before it are replaced by zeros. A tile that contains a start is multiplied
/// once for each document in it, each time with the tokens of that document only. So no value of one document is
/// multiplied with values of another one, and a tile without a start needs no mask. Within a document a NaN or an
/// infinity can change tokens outside the reach of the filter, because H_b has zeros there: from the first token of its
/// own tile, at most 15 before it, to the end of the last tile that some H_b connects with it. The number of blocks is
/// 2, 3, 5 or 9, at least as many as the taps need, so that this may be more than 60 tokens beyond the filter.
///
/// A filter in float32 is rounded to bf16, and so is q⊙d_y; sums, skip and gates are in float32.
namespace causeway::cuda {

inline constexpr int conv_tile = 16;
inline constexpr std::int64_t max_conv_taps = 129;

/// The number of Toeplitz blocks that `taps` taps need.
constexpr int conv_blocks(std::int64_t taps) { return static_cast<int>(ceil_div(taps - 1, conv_tile)) + 1; }

/// Calls body<Blocks>() with at least as many Toeplitz blocks as the taps need.
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
    body.template operator()<conv_blocks(max_conv_taps)>();
}

/// The cut of the tokens into strips and of the channels into blocks of `tiles_across` tiles.
struct StripPlan {
  std::int64_t tiles, channel_tiles;  ///< of all tokens, of all channels
  std::int64_t across;                ///< blocks across the channels
  std::int64_t strip_tiles, strips;   ///< tiles of a strip, number of strips

  /// Strips of at most `max_strip_tiles` tiles. The longer the strips, the fewer tiles before them are read again; but
  /// there should be 256 blocks, as many as an H200 runs at once if a block takes half a multiprocessor.
  StripPlan(std::int64_t tokens, std::int64_t channels, int tiles_across, std::int64_t max_strip_tiles)
      : tiles(ceil_div(tokens, conv_tile)),
        channel_tiles(channels / conv_tile),
        across(ceil_div(channel_tiles, tiles_across)),
        strip_tiles(std::clamp<std::int64_t>(tiles * across / 256, 16, max_strip_tiles)),
        strips(ceil_div(tiles, strip_tiles)) {}
  unsigned grid() const { return grid_of(across * strips); }
};

/// A block's tile in shared memory, 16 tokens by the channels of `Across` warps. The parts of a row, 8 channels each,
/// are permuted (XOR swizzle), so that the eight rows of a matrix are in eight different banks.
template <int Across>
struct BlockTile {
  static constexpr int row_parts = 2 * Across, copies = conv_tile * row_parts, bytes = copies * 16;

  /// Byte offset of a part of a row.
  __device__ static unsigned offset(int token, int part) {
    return static_cast<unsigned>((token * row_parts + (part ^ (token % 8))) * 16);
  }
  /// Offset of the row that a lane passes to ldmatrix_x4<true>, for tiles [channels, tokens] of warp `warp`. In the
  /// direction from right to left the tokens are reversed.
  __device__ static unsigned channels_by_tokens(ScanDirection direction, int warp, int lane) {
    const int token = lane % 8 + lane / 16 * 8;
    return offset(direction == ScanDirection::left_to_right ? token : conv_tile - 1 - token, 2 * warp + lane / 8 % 2);
  }
  /// The same for ldmatrix_x4<false>, for tiles [tokens, channels].
  __device__ static unsigned tokens_by_channels(int warp, int lane) { return offset(lane % 16, 2 * warp + lane / 16); }
};

/// The work of a thread: the strip and the channels of its warp, and the 16 bytes of each tile that it copies.
template <int Across>
struct TileThread {
  int lane, warp;
  int row;  ///< token of the tile that the thread copies
  std::int64_t strip;
  std::int64_t tile, channel;  ///< the warp's channel tile, the lane's first channel
  std::int64_t column;         ///< first channel that the thread copies
  unsigned copy_offset;        ///< of the copy in a BlockTile
  bool exists;                 ///< whether the warp's channels exist; if not, it computes with zeros
  bool copies;                 ///< whether the channels that the thread copies exist

  __device__ explicit TileThread(const StripPlan& plan)
      : lane(static_cast<int>(threadIdx.x) % 32),
        warp(static_cast<int>(threadIdx.x) / 32 % Across),
        row(static_cast<int>(threadIdx.x) % BlockTile<Across>::copies / BlockTile<Across>::row_parts),
        strip(blockIdx.x / plan.across),
        tile(blockIdx.x % plan.across * Across + warp),
        channel(tile * conv_tile + lane / 4) {
    const int part = static_cast<int>(threadIdx.x) % BlockTile<Across>::row_parts;
    column = blockIdx.x % plan.across * Across * conv_tile + part * 8;
    copy_offset = BlockTile<Across>::offset(row, part);
    exists = tile < plan.channel_tiles;
    copies = column < plan.channel_tiles * conv_tile;
  }
};

/// Finds the starts of documents along a scan. Tokens are numbered in the scan's direction, so that from right to left
/// the start is the last token of a document.
template <ScanDirection direction>
class TileStarts {
 public:
  /// first_tile: the first tile of the scan. A warp calls it together.
  __device__ TileStarts(const SegmentsView& segments, std::int64_t first_tile, int lane)
      : entries_(segments.cu_seqlens), count_(segments.count) {
    if constexpr (direction == ScanDirection::left_to_right)
      index_ = warp_upper_bound(entries_, count_ + 1, first_tile * conv_tile - 1, lane);
    else
      index_ = warp_upper_bound(entries_, count_ + 1, (first_tile + 1) * conv_tile, lane) - 1;
    fetch();
  }
  /// Bit i: a document begins with token i of `tile`. Must be called for the tiles in the order of the scan.
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

/// to = x for the tokens [low, high) of a tile [tokens, channels], zeros elsewhere.
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

/// The Toeplitz blocks of a group's filter, in registers as pairs of taps.
template <int Blocks>
class ToeplitzFilter {
 public:
  __device__ ToeplitzFilter(const ParameterRows<bf16>& taps, std::int64_t group, std::int64_t length, int lane) {
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
    float replacement[2][4] = {};
    multiply(replacement, x, 0);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = 8 * n + 2 * (lane % 4) + e % 2;
        if (token >= low && token < high) sum[n][e] = replacement[n][e];
      }
  }

 private:
  std::uint32_t pairs_[2 * Blocks + 1];
};

/// sum += skip⊙x for a tile [channels, tokens]. The sums and the tile have the same arrangement in registers.
__device__ inline void add_skip(float (&sum)[2][4], const float (&skip)[2], const std::uint32_t (&x)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum[i / 2][i % 2 * 2] += skip[i % 2] * low_bf16(x[i]);
    sum[i / 2][i % 2 * 2 + 1] += skip[i % 2] * high_bf16(x[i]);
  }
}
/// to = gate⊙sum, or sum, rounded to bf16.
__device__ inline void round_gated(std::uint32_t (&to)[4], const float (&sum)[2][4], bool gated,
                                   const std::uint32_t (&gate)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float first = sum[i / 2][i % 2 * 2], second = sum[i / 2][i % 2 * 2 + 1];
    to[i] = gated ? pack_bf16(low_bf16(gate[i]) * first, high_bf16(gate[i]) * second) : pack_bf16(first, second);
  }
}

/// Writes 16 bytes of a row from shared memory to `to`, with the hint that they are not read again soon.
__device__ inline void write_row(bf16* to, unsigned from) {
  uint4 word;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "r"(from)
               : "memory");
  __stcs(reinterpret_cast<uint4*>(to), word);
}

}  // namespace causeway::cuda

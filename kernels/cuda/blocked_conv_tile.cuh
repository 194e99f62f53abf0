#pragma once

#include <algorithm>

#include "kernels/cuda/blocked_conv.cuh"
#include "kernels/cuda/documents.cuh"
#include "kernels/cuda/tensor_core.cuh"

/// A warp takes 16 channels of one group down a strip of tokens, a tile of 16 tokens at a time: y_n = Σ_b x_{n-b} H_b with
/// tiles x [16 channels, 16 tokens] and Toeplitz blocks (H_b)_{ji} = h[16 b + i - j]. Its tiles arrive in shared memory
/// some ahead, each 512 bytes a tensor, one 16-byte copy a lane, and are nobody else's: no barrier but the warp's. Walking
/// left, a tile's tokens count from the right: then the blocks are the same.
namespace causeway::cuda {

inline constexpr int conv_tile = 16, conv_warps = 4, conv_tile_bytes = conv_tile * conv_tile * 2;

/// Toeplitz blocks that `taps` taps touch.
constexpr int conv_blocks(std::int64_t taps) { return static_cast<int>((taps - 1 + conv_tile - 1) / conv_tile) + 1; }

/// A lane's 16 bytes in a tile [16 tokens][2 halves of 8 channels]; halves trade places every four tokens, so that the eight
/// rows of a matrix lie in eight different banks.
__device__ inline unsigned place_in_tile(int token, int half) {
  return static_cast<unsigned>(token * 32 + (half ^ ((token >> 2) & 1)) * 16);
}

/// The documents' edges along a walk: which tokens of a tile, counted in the walk's direction, are the first of a document.
template <Towards towards>
class Edges {
 public:
  /// Before the walk's first tile. A warp calls it together.
  __device__ Edges(const SegmentsView& segments, std::int64_t first_tile, int lane)
      : entries_(segments.cu_seqlens), count_(segments.count) {
    if constexpr (towards == Towards::right)
      index_ = first_beyond(entries_, count_ + 1, first_tile * conv_tile - 1, lane);
    else
      index_ = first_beyond(entries_, count_ + 1, (first_tile + 1) * conv_tile, lane) - 1;
    fetch();
  }
  /// Bit i: a document begins with token i of this tile, the next of the walk.
  __device__ unsigned of_tile(std::int64_t tile) {
    unsigned bits = 0;
    if constexpr (towards == Towards::right) {
      for (; next_ < (tile + 1) * conv_tile; ++index_, fetch()) bits |= 1u << (next_ - tile * conv_tile);
    } else {
      for (; next_ > tile * conv_tile; --index_, fetch()) bits |= 1u << ((tile + 1) * conv_tile - next_);
    }
    return bits;
  }

 private:
  __device__ void fetch() {
    constexpr std::int64_t never = towards == Towards::right ? INT64_MAX : INT64_MIN;
    next_ = index_ >= 0 && index_ <= count_ ? entries_[index_] : never;
  }
  const std::int64_t* entries_;
  std::int64_t count_, index_, next_;
};

/// Calls body(low, high) for every document that begins in the tile: its tokens there.
template <class Body>
__device__ void for_each_start(unsigned edges, const Body& body) {
  for (unsigned rest = edges; rest != 0; rest &= rest - 1) {
    const unsigned after = rest & (rest - 1);
    body(__ffs(static_cast<int>(rest)) - 1, after == 0 ? conv_tile : __ffs(static_cast<int>(after)) - 1);
  }
}

/// Which strip of tokens and which 16 channels are a warp's.
struct StripPlan {
  std::int64_t tiles, channel_tiles, strip_tiles, strips;

  StripPlan(std::int64_t tokens, std::int64_t channels)
      : tiles((tokens + conv_tile - 1) / conv_tile),
        channel_tiles(channels / conv_tile),
        // 2,048 warps are what an H200 holds at once; a longer strip looks back at less that is not its own.
        strip_tiles(std::clamp<std::int64_t>(tiles * channel_tiles / 2048, 16, 128)),
        strips((tiles + strip_tiles - 1) / strip_tiles) {}
  unsigned grid() const { return grid_of(across() * strips); }
  __host__ __device__ std::int64_t across() const { return (channel_tiles + conv_warps - 1) / conv_warps; }
};

inline constexpr std::int64_t most_conv_taps = 129;

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

/// d_taps by strips: [strips][taps][channel tiles].
Tensor tensor_core_lags(const Stream& stream, const BlockedConvBackward& args, const StripPlan& plan);

}  // namespace causeway::cuda

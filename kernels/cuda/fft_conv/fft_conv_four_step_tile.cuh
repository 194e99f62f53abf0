#pragma once

#include <algorithm>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/fft_conv/fft_conv_four_step.cuh"

/// Tiles of the four-step FFT's columns in shared memory, and how they are filled from tokens and filters and written
/// to them. Only for fft_conv_four_step_columns.cu.
namespace causeway::cuda {

/// What the rows of points are read from or written to.
enum class Side { from_tokens, to_tokens, filters };

/// A block's columns of N1 = radix1 · radix2 points in shared memory, for `across` neighbouring t2 and `channels`
/// channels. Neighbouring t2 are neighbours in the workspace and in a filter's taps; channels are neighbours in a
/// token. So a tile of filters has more t2 and fewer channels than one of tokens. Tokens to which less than 32 bytes
/// are written at a time cost twice the time: then the tile is twice as large. Real and imaginary parts are stored
/// separately; point t1 of column t2 of channel c is at c · pitch + t1 · across + t2. With this pitch, 16 neighbours of
/// a row are in different banks, and so are packets of 8 channels.
template <int radix1_, int radix2_, Side side>
struct ColumnTile {
  static constexpr int radix1 = radix1_, radix2 = radix2_, length = radix1 * radix2;
  static constexpr bool large = side == Side::to_tokens && length > 64;
  static constexpr int threads = large ? 512 : 256;
  static constexpr int columns = (large ? 16384 : length > 16 ? 8192 : 4096) / length;
  static constexpr int across_of_tokens = columns / (length <= 64 || large ? 16 : 8);
  static constexpr int across =
      side == Side::filters ? std::min(columns, std::max(64, across_of_tokens)) : across_of_tokens;
  static constexpr int channels = columns / across;
  static constexpr int pitch = length * across + 18;
  static constexpr int tiles_across = row_points / across;
  static constexpr int blocks = large ? 1 : radix2 == 1 ? 4 : 3;  ///< resident blocks per multiprocessor

  float part[2][channels * pitch];
  Complex<float> twiddles[length];  ///< exp(πi t1/2N1), the part of U that depends on t1

  __device__ void fill_twiddles() {
    for (int i = static_cast<int>(threadIdx.x); i < length; i += threads)
      twiddles[i] = cis_pi(static_cast<float>(i) / (2 * length));
  }
  __device__ Complex<float> get(int at) const { return {part[0][at], part[1][at]}; }
  __device__ void put(int at, Complex<float> x) {
    part[0][at] = x.re;
    part[1][at] = x.im;
  }
};

/// First channel, t2 and document of a block's tile. Neighbouring blocks have neighbouring channels, so that blocks
/// that read the same cache lines run at the same time.
template <class Tile>
struct ColumnTileOrigin {
  std::int64_t channel, t2, document;

  __device__ explicit ColumnTileOrigin(std::int64_t channels) {
    const std::int64_t across = ceil_div(channels, Tile::channels), rest = blockIdx.x / across;
    channel = blockIdx.x % across * Tile::channels;
    t2 = rest % Tile::tiles_across * Tile::across;
    document = rest / Tile::tiles_across;
  }
};

/// Position in a document of point `at` = t1 · across + t2 of a tile.
template <class Tile>
__device__ std::int64_t position(std::int64_t t2, int at) {
  return static_cast<std::int64_t>(at / Tile::across) * row_points + t2 + at % Tile::across;
}

/// 2 if the second half of the 2N values, which the points have as imaginary parts, holds some of the `count` values; 1
/// if it is all zeros, or is not written: then it does not use the tile.
__device__ inline int halves_of(std::int64_t count, std::int64_t points) { return count > points ? 2 : 1; }

/// Fills a tile from the tokens of a batch, with zeros after the end of a document.
template <class T, int V>
struct TokenLoader {
  static constexpr Side side = Side::from_tokens;
  RowBatch batch;
  GatedInputRows<T> input;

  __device__ int halves(std::int64_t document) const { return halves_of(batch.extents[document].count, batch.points); }
  template <class Tile>
  __device__ void load(Tile& tile, const ColumnTileOrigin<Tile>& origin, int halves) const {
    constexpr int packets = Tile::channels / V;
    const Extent extent = batch.extents[origin.document];
    for (int part = 0; part < halves; ++part)
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < Tile::length * Tile::across * packets; i += Tile::threads) {
        const int at = i / packets, c = i % packets * V;
        const std::int64_t t = position<Tile>(origin.t2, at) + part * batch.points,
                           channel = batch.first_channel + origin.channel + c;
        float values[V]{};
        if (t < extent.count && origin.channel + c < batch.channels)
          input.template load<V>(extent.first + t, channel, values);
#pragma unroll
        for (int v = 0; v < V; ++v) tile.part[part][(c + v) * Tile::pitch + at] = values[v];
      }
  }
};

/// Points that a thread of TapLoader and TapWriter has at a time: with all channels of the tile 16 values.
template <class Tile>
constexpr int points_at_a_time() {
  constexpr int count = std::max(1, 16 / Tile::channels);
  static_assert(Tile::length * Tile::across % (count * Tile::threads) == 0);
  return count;
}

/// Fills a tile from the first `count` taps of the groups' filters; each group is treated as one channel. A thread has
/// the same points of all channels.
template <class T>
struct TapLoader {
  static constexpr Side side = Side::filters;
  std::int64_t count;
  FilterGroups groups;
  Rows<const T> taps;

  __device__ int halves(std::int64_t) const { return 1; }  // no more than `points` taps are used
  template <class Tile>
  __device__ void load(Tile& tile, const ColumnTileOrigin<Tile>& origin, int) const {
    constexpr int many = points_at_a_time<Tile>();
    const std::int64_t first = groups.first + origin.channel;
    const int present = static_cast<int>(std::min<std::int64_t>(Tile::channels, groups.count - origin.channel));
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < Tile::length * Tile::across; at += many * Tile::threads)
#pragma unroll
      for (int p = 0; p < many; ++p) {
        const std::int64_t t = position<Tile>(origin.t2, at + p * Tile::threads);
        const int filters = t < count ? present : 0;
#pragma unroll
        for (int c = 0; c < Tile::channels; ++c)
          tile.part[0][c * Tile::pitch + at + p * Tile::threads] =
              c < filters ? static_cast<float>(taps(first + c, t)) : 0;
      }
  }
};

/// Writes a tile to one or two outputs of the tokens.
template <class T, int V>
struct TokenWriter {
  static constexpr Side side = Side::to_tokens;
  RowBatch batch;
  GatedOutputRows<T> first, second;
  bool two;

  __device__ int halves(std::int64_t document) const { return halves_of(batch.extents[document].count, batch.points); }
  template <class Tile>
  __device__ void write(const Tile& tile, const ColumnTileOrigin<Tile>& origin, int halves) const {
    constexpr int packets = Tile::channels / V;
    const Extent extent = batch.extents[origin.document];
    for (int part = 0; part < halves; ++part)
#pragma unroll 4
      for (int i = static_cast<int>(threadIdx.x); i < Tile::length * Tile::across * packets; i += Tile::threads) {
        const int at = i / packets, c = i % packets * V;
        const std::int64_t t = position<Tile>(origin.t2, at) + part * batch.points;
        if (t >= extent.count || origin.channel + c >= batch.channels) continue;
        float values[V];
#pragma unroll
        for (int v = 0; v < V; ++v) values[v] = tile.part[part][(c + v) * Tile::pitch + at];
        const std::int64_t token = extent.first + t, channel = batch.first_channel + origin.channel + c;
        first.template store<V>(token, channel, values);
        if (two) second.template store<V>(token, channel, values);
      }
  }
};

/// Adds a tile to the gradients of the taps. A thread has the same points of all channels. It loads their sums before
/// it stores the first: the compiler does not move a load before a store.
struct TapWriter {
  static constexpr Side side = Side::filters;
  std::int64_t count;
  FilterGroups groups;
  Rows<float> taps;

  __device__ int halves(std::int64_t) const { return 1; }
  template <class Tile>
  __device__ void write(const Tile& tile, const ColumnTileOrigin<Tile>& origin, int) const {
    constexpr int many = points_at_a_time<Tile>();
    const std::int64_t first = groups.first + origin.channel;
    const int present = static_cast<int>(std::min<std::int64_t>(Tile::channels, groups.count - origin.channel));
#pragma unroll 1
    for (int at = static_cast<int>(threadIdx.x); at < Tile::length * Tile::across; at += many * Tile::threads) {
      float sums[many][Tile::channels];
#pragma unroll
      for (int p = 0; p < many; ++p) {
        const std::int64_t t = position<Tile>(origin.t2, at + p * Tile::threads);
        const int filters = t < count ? present : 0;
#pragma unroll
        for (int c = 0; c < Tile::channels; ++c)
          sums[p][c] = c < filters ? taps(first + c, t) + tile.part[0][c * Tile::pitch + at + p * Tile::threads] : 0;
      }
#pragma unroll
      for (int p = 0; p < many; ++p) {
        const std::int64_t t = position<Tile>(origin.t2, at + p * Tile::threads);
        const int filters = t < count ? present : 0;
#pragma unroll
        for (int c = 0; c < Tile::channels; ++c)
          if (c < filters) taps(first + c, t) = sums[p][c];
      }
    }
  }
};

/// Work item i of a stage: column t2 of channel c, and the index `other` of the radix that the stage does not
/// transform.
template <class Tile>
struct ColumnItem {
  int t2, c, other;
  int at;  ///< of the column's first point in the tile

  __device__ explicit ColumnItem(int i)
      : t2(i % Tile::across),
        c(i / Tile::across % Tile::channels),
        other(i / Tile::columns),
        at(c * Tile::pitch + t2) {}
};

}  // namespace causeway::cuda

#pragma once

#include "kernels/cuda/device/tile_documents.cuh"
#include "kernels/cuda/hyena_block/hyena_block_ring.cuh"
#include "kernels/cuda/hyena_block/hyena_block_se.cuh"

/// The block with up to 129 taps on tensor cores: parts of its forward and backward. As in blocked_conv_tile.cuh a warp
/// has 16 channels and goes down tiles of 16 tokens, x [16 channels, 16 tokens]: y_n = Σ_b x_{n-b} H_b with Toeplitz
/// blocks (H_b)_{ji} = h[16 b + i - j] that are in registers. The last tiles of x are in shared memory, rounded to
/// bf16.
///
/// The featurizer is computed in the layout of the products: ldmatrix of the rows of the tile gives tokens 2t, 2t+1 of
/// a channel; of the rows two tokens earlier, tokens 2t-2, 2t-1; so a lane has all lags of its tokens.
namespace causeway::cuda::fused_block {

inline constexpr int mr_tile = 16, mr_channels = 64, mr_stage_tokens = 32;
inline constexpr unsigned mr_tensor_bytes = mr_stage_tokens * mr_channels * 2,
                          mr_tile_bytes = mr_tile * mr_channels * 2;  ///< of a stage, in shared memory

/// The index of this warp in its block, in a form that the compiler knows to be the same in all lanes. Else each
/// __syncwarp and each shuffle after a branch on it becomes a branch of its own.
__device__ inline int uniform_warp() { return __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0); }

/// A tile [16 channels, 16 tokens] in float, as a lane has it: register i holds channel lane/4 + 8 (i % 2), tokens
/// 2 (lane % 4) + 8 (i / 2) and the next one.
struct TileValues {
  float at[4][2];
};

/// Featurizer and skip of the lane's two channels, lane/4 and lane/4 + 8.
struct MrParameters {
  float featurizer[3][featurizer_taps][2], skip[2];

  __device__ void load(const BlockFilter& filter, int channel) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const std::int64_t c = channel + 8 * e;
      const bool exists = c < filter.channels;
#pragma unroll
      for (int n = 0; n < 3; ++n)
#pragma unroll
        for (int j = 0; j < featurizer_taps; ++j)
          featurizer[n][j][e] =
              exists && j < filter.width ? filter.featurizer(n * filter.channels + c, filter.width - 1 - j) : 0.0f;
      skip[e] = exists && filter.skip.present() ? filter.skip(c) : 0.0f;
    }
  }
};

/// Tiles of which a lane has tokens 2 (lane % 4) + 8 h + e, or, reversed, tokens 15 minus that: ldmatrix takes the rows
/// in any order. With reversed tiles of d_c the sum over later tokens is a sum over earlier places, with the same
/// blocks. The earlier one of a lane's two tokens of a half is its `first`.
template <bool Reversed>
struct TokenOrder {
  static constexpr int first = Reversed ? 1 : 0, second = 1 - first;
  __device__ static int first_token(int h, int lane) {
    return Reversed ? 14 - 2 * (lane % 4) - 8 * h : 2 * (lane % 4) + 8 * h;
  }
};

/// What a lane's tokens reach of one document, as masks of words: [h][e] for the lane's token e of half h and one or
/// two tokens earlier; `before[h]`: whether the token before the lane's first one reaches the one before it.
template <bool Reversed>
struct ReachMasks {
  unsigned lag1[2][2], lag2[2][2], before[2];
  __device__ static ReachMasks of(unsigned starts, int lane) {
    using Order = TokenOrder<Reversed>;
    ReachMasks m;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const unsigned bits = starts >> (15 + Order::first_token(h, lane));
      m.before[h] = (bits & 1) - 1;
      m.lag1[h][Order::first] = (bits >> 1 & 1) - 1;
      m.lag1[h][Order::second] = (bits >> 2 & 1) - 1;
      m.lag2[h][Order::first] = m.lag1[h][Order::first] & m.before[h];
      m.lag2[h][Order::second] = m.lag1[h][Order::second] & m.lag1[h][Order::first];
    }
    return m;
  }
};
/// x, or 0 where the mask is 0, also instead of NaN.
template <bool Masked>
__device__ inline float masked(float x, unsigned mask) {
  return Masked ? __uint_as_float(__float_as_uint(x) & mask) : x;
}

/// Rows of a tile as a lane has them, and of two tokens earlier.
struct RawTile {
  std::uint32_t row[4], earlier[4];
};
/// Their values at the lane's tokens and one and two tokens earlier, if those are of the same document.
struct LaggedValues {
  float at[featurizer_taps][4][2];
};
template <bool Masked, bool Reversed = false>
__device__ inline LaggedValues lagged(const RawTile& raw, const ReachMasks<Reversed>& reach) {
  constexpr int first = TokenOrder<Reversed>::first, second = TokenOrder<Reversed>::second;
  LaggedValues x;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int h = i / 2;
    const float now[2] = {low_bf16(raw.row[i]), high_bf16(raw.row[i])},
                earlier[2] = {low_bf16(raw.earlier[i]), high_bf16(raw.earlier[i])};
    x.at[0][i][0] = now[0];
    x.at[0][i][1] = now[1];
    x.at[1][i][first] = masked<Masked>(earlier[second], reach.lag1[h][first]);
    x.at[1][i][second] = masked<Masked>(now[first], reach.lag1[h][second]);
    x.at[2][i][0] = masked<Masked>(earlier[0], reach.lag2[h][0]);
    x.at[2][i][1] = masked<Masked>(earlier[1], reach.lag2[h][1]);
  }
  return x;
}
__device__ inline TileValues featured(const LaggedValues& x, const float (&w)[featurizer_taps][2]) {
  TileValues out;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      out.at[i][n] = w[0][i % 2] * x.at[0][i][n];
#pragma unroll
      for (int j = 1; j < featurizer_taps; ++j) out.at[i][n] += w[j][i % 2] * x.at[j][i][n];
    }
  return out;
}

__device__ inline void round_tile(std::uint32_t (&to)[4], const TileValues& x) {
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] = pack_bf16(x.at[i][0], x.at[i][1]);
}
__device__ inline TileValues operator*(const TileValues& a, const TileValues& b) {
  TileValues out;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 2; ++e) out.at[i][e] = a.at[i][e] * b.at[i][e];
  return out;
}

/// Sums of a tile, in the layout of TileValues: sum[n][e] is register 2 n + e / 2, element e % 2.
using TileSums = float[2][4];

/// The Toeplitz blocks of a group's filter, in registers as pairs of taps. With `Filters` 2 the 16 channels are of up
/// to two groups: both products are computed, and a channel takes its own.
/// An operand B is two registers of which the first has an even number. With `Twice` the pairs are in registers for
/// both halves of the columns, else half of the operands are moved together at each use.
template <int Blocks, int Filters, bool Twice = false>
struct ToeplitzFilters {
  std::uint32_t pairs[Filters][2 * Blocks + 1];
  std::uint32_t again[Twice ? Filters : 1][Twice ? 2 * Blocks : 1];  ///< pairs[1] and the next ones
  bool second[2];  ///< whether the lane's channels are of the second group

  /// channel: the warp's first.
  __device__ void load(const BlockFilter& filter, int channel, int lane) {
    const std::int64_t width = filter.channels / filter.groups, first = channel / width;
#pragma unroll
    for (int f = 0; f < Filters; ++f) {
      const std::int64_t group = first + f;
      const auto tap = [&](int lag) {
        return lag >= 0 && lag < filter.length && group < filter.groups ? filter.taps(group, lag) : 0.0f;
      };
#pragma unroll
      for (int i = 0; i < 2 * Blocks + 1; ++i) {
        const int lag = 8 * (i - 1) + lane / 4 - 2 * (lane % 4);
        pairs[f][i] = pack_bf16(tap(lag), tap(lag - 1));
        if constexpr (Twice)  // a shuffle, since ptxas would merge a copy
          if (i > 0) again[f][i - 1] = __shfl_sync(~0u, pairs[f][i], lane);
      }
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) second[e] = Filters == 2 && channel + lane / 4 + 8 * e >= (first + 1) * width;
  }
  /// sum += x H_block, with each filter.
  __device__ void multiply(TileSums (&sum)[Filters], const std::uint32_t (&x)[4], int block) const {
#pragma unroll
    for (int f = 0; f < Filters; ++f) {
      mma_16x8x16(sum[f][0], x, pairs[f][2 * block + 1], pairs[f][2 * block]);
      if constexpr (Twice)
        mma_16x8x16(sum[f][1], x, again[f][2 * block + 1], again[f][2 * block]);
      else
        mma_16x8x16(sum[f][1], x, pairs[f][2 * block + 2], pairs[f][2 * block + 1]);
    }
  }
  /// The columns [low, high) of sum become `initial` + x H_0.
  __device__ void replace(TileSums (&sum)[Filters], const std::uint32_t (&x)[4], const TileValues& initial, int low,
                          int high, int lane) const {
    TileSums replacement[Filters];
    begin(replacement, initial);
    multiply(replacement, x, 0);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = 8 * n + 2 * (lane % 4) + e % 2;
#pragma unroll
        for (int f = 0; f < Filters; ++f)
          if (token >= low && token < high) sum[f][n][e] = replacement[f][n][e];
      }
  }
  __device__ static void begin(TileSums (&sum)[Filters], const TileValues& initial) {
#pragma unroll
    for (int f = 0; f < Filters; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int e = 0; e < 2; ++e) sum[f][i / 2][i % 2 * 2 + e] = initial.at[i][e];
  }
  /// The sums of the lane's channels with their own filters.
  __device__ TileValues own(const TileSums (&sum)[Filters]) const {
    TileValues out;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int at = i % 2 * 2 + e;
        out.at[i][e] = Filters == 2 && second[i % 2] ? sum[Filters - 1][i / 2][at] : sum[0][i / 2][at];
      }
    return out;
  }
};

/// Where a lane's rows are in a stage's tensor of 32 tokens by 64 channels with the 128-byte swizzle of bulk copies:
/// the row that it passes to ldmatrix for a tile of its warp, and the row two tokens earlier.
struct MrAddress {
  unsigned row, earlier;
  bool wraps;  ///< the earlier row is of the tile before
  /// reversed: the rows of the tile in the order of TokenOrder<true>.
  __device__ MrAddress(int warp, int lane, bool reversed = false) {
    const int place = lane % 8 + lane / 16 * 8, token = reversed ? mr_tile - 1 - place : place,
              part = 2 * warp + lane / 8 % 2;
    row = static_cast<unsigned>(token * 128 + (part ^ (token % 8)) * 16);
    earlier = static_cast<unsigned>((token - 2) * 128 + (part ^ ((token + 6) % 8)) * 16);
    wraps = token < 2;
  }
};

/// A tile of x in a warp's shared memory: [16 tokens, 16 channels], rows of 32 bytes whose halves are permuted so that
/// matrices of eight rows have no bank conflicts.
struct MrTileRows {
  static constexpr unsigned bytes = mr_tile * 32;
  /// The offset of the row that a lane passes to stmatrix and ldmatrix for a tile [channels, tokens] in registers.
  __device__ static unsigned of_lane(int lane) {
    const int token = lane % 8 + lane / 16 * 8, part = lane / 8 % 2;
    return static_cast<unsigned>(token * 32 + (part ^ (token / 4 % 2)) * 16);
  }
};

/// Calls body<Blocks, Filters>() with enough Toeplitz blocks for the taps, and two filters if the 16 channels of a warp
/// may be of two groups.
template <class Body>
void with_mr_blocks(const HyenaBlockInputs& in, const Body& body) {
  if (in.q.columns() / in.taps.rows() % mr_tile != 0)
    body.template operator()<9, 2>();
  else if (in.taps.columns() <= 2 * mr_tile + 1)
    body.template operator()<3, 1>();
  else
    body.template operator()<9, 1>();
}

}  // namespace causeway::cuda::fused_block

#pragma once

#include "kernels/cuda/device/tile_documents.cuh"
#include "kernels/cuda/hyena_block/hyena_block_mr_windows.cuh"
#include "kernels/cuda/hyena_block/hyena_block_se.cuh"

/// The block with up to 129 taps on tensor cores: parts of its forward and backward. As in blocked_conv_tile.cuh a warp
/// has 16 channels and goes down tiles of 16 tokens, x [16 channels, 16 tokens]: y_n = Σ_b x_{n-b} H_b with Toeplitz
/// blocks (H_b)_{ji} = h[16 b + i - j] that are in registers. The last tiles of x are in shared memory, rounded to
/// bf16.
///
/// The featurizer is computed in the layout of the products: ldmatrix of the rows of the tile gives tokens 2t, 2t+1 of
/// a channel; of the rows two tokens earlier, tokens 2t-2, 2t-1; so a lane has all lags of its tokens.
namespace causeway::cuda::fused_block {

/// The index of this warp in its block, in a form that the compiler knows to be the same in all lanes. Else each
/// __syncwarp and each shuffle after a branch on it becomes a branch of its own.
__device__ inline int uniform_warp() { return __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0); }

/// A tile [16 channels, 16 tokens] in float, as a lane has it: register i holds channel lane/4 + 8 (i % 2), tokens
/// 2 (lane % 4) + 8 (i / 2) and the next one.
struct TileValues {
  float at[4][2];
};

/// Calls body(elements) with the pointer of a parameter's type, null if the parameter is absent. So that loads have no
/// branch between them and do not wait for each other.
template <class Body>
__device__ inline void with_elements(const ParameterRows<bf16>& parameter, const Body& body) {
  if (parameter.wide != nullptr)
    body(parameter.wide);
  else
    body(parameter.narrow);
}

/// Featurizer and skip of the lane's two channels, lane/4 and lane/4 + 8.
struct MrParameters {
  float featurizer[3][featurizer_taps][2], skip[2];

  __device__ void load(const BlockFilter& filter, int first_channel, int second_channel) {
    const int channels[2] = {first_channel, second_channel};
    with_elements(filter.featurizer, [&](const auto* taps) {
#pragma unroll
      for (int n = 0; n < 3; ++n)
#pragma unroll
        for (int j = 0; j < featurizer_taps; ++j)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int c = channels[e];
            const bool exists = c < filter.channels && j < filter.width;
            const std::int64_t row = exists ? n * filter.channels + c : 0, column = exists ? filter.width - 1 - j : 0;
            const float x = taps != nullptr ? static_cast<float>(taps[row * filter.featurizer.stride + column]) : 0.0f;
            featurizer[n][j][e] = exists ? x : 0.0f;
          }
    });
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int c = channels[e];
      skip[e] = c < filter.channels && filter.skip.present() ? filter.skip(c) : 0.0f;
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

/// The values of a raw tile at the lane's tokens and one and two tokens earlier, if those are of the same document.
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

/// The Toeplitz blocks of a group's filter, in registers as pairs of taps.
/// An operand B is two registers of which the first has an even number. With `Twice` the pairs are in registers for
/// both halves of the columns, else half of the operands are moved together at each use.
template <int Blocks, bool Twice = false>
struct ToeplitzFilter {
  std::uint32_t pairs[2 * Blocks + 1];
  std::uint32_t again[Twice ? 2 * Blocks : 1];  ///< pairs[1] and the next ones

  /// If there is no such group, the last one.
  __device__ void load(const BlockFilter& filter, int group, int lane) {
    const std::int64_t row = group < filter.groups ? group : filter.groups - 1;
    with_elements(filter.taps, [&](const auto* taps) { load_taps(filter, taps + row * filter.taps.stride, lane); });
  }
  template <class T>
  __device__ void load_taps(const BlockFilter& filter, const T* taps, int lane) {
    const auto tap = [&](int lag) {
      const bool exists = lag >= 0 && lag < filter.length;
      const float x = static_cast<float>(taps[exists ? lag : 0]);
      return exists ? x : 0.0f;
    };
#pragma unroll
    for (int i = 0; i < 2 * Blocks + 1; ++i) {
      const int lag = 8 * (i - 1) + lane / 4 - 2 * (lane % 4);
      pairs[i] = pack_bf16(tap(lag), tap(lag - 1));
      if constexpr (Twice)  // a shuffle, since ptxas would merge a copy
        if (i > 0) again[i - 1] = __shfl_sync(~0u, pairs[i], lane);
    }
  }
  /// sum += x H_block.
  __device__ void multiply(TileSums& sum, const std::uint32_t (&x)[4], int block) const {
    mma_16x8x16(sum[0], x, pairs[2 * block + 1], pairs[2 * block]);
    if constexpr (Twice)
      mma_16x8x16(sum[1], x, again[2 * block + 1], again[2 * block]);
    else
      mma_16x8x16(sum[1], x, pairs[2 * block + 2], pairs[2 * block + 1]);
  }
  /// The columns [low, high) of sum become `initial` + x H_0.
  __device__ void replace(TileSums& sum, const std::uint32_t (&x)[4], const TileValues& initial, int low, int high,
                          int lane) const {
    TileSums replacement;
    begin(replacement, initial);
    multiply(replacement, x, 0);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = 8 * n + 2 * (lane % 4) + e % 2;
        if (token >= low && token < high) sum[n][e] = replacement[n][e];
      }
  }
  __device__ static void begin(TileSums& sum, const TileValues& initial) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) sum[i / 2][i % 2 * 2 + e] = initial.at[i][e];
  }
  __device__ static TileValues values(const TileSums& sum) {
    TileValues out;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int e = 0; e < 2; ++e) out.at[i][e] = sum[i / 2][i % 2 * 2 + e];
    return out;
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

/// Calls body<Blocks, Layout>() with enough Toeplitz blocks for the taps.
template <class Body>
void with_mr_blocks(const HyenaBlockInputs& in, const Body& body) {
  const std::int64_t width = in.q.columns() / in.taps.rows();
  if (width == mr_octet_width)  // the groups are a multiple of 8, because the channels are (can_be_mapped)
    body.template operator()<9, MrLayout::octets>();
  else if (width % mr_tile != 0)
    body.template operator()<9, MrLayout::words>();
  else if (in.taps.columns() <= 2 * mr_tile + 1)
    body.template operator()<3, MrLayout::whole>();
  else
    body.template operator()<9, MrLayout::whole>();
}

}  // namespace causeway::cuda::fused_block

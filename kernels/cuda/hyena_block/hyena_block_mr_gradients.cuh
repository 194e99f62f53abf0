#pragma once

#include "kernels/cuda/device/warp_instructions.cuh"
#include "kernels/cuda/hyena_block/hyena_block_mr.cuh"

/// Parts of the backward on tensor cores: the featurizer's gradients with results two tokens late, the sums of d_taps,
/// and the products that d_x is made of.
namespace causeway::cuda::fused_block {

/// A tile's values in the layout of TileValues.
template <class Rows>
__device__ inline TileValues load_values(const Rows& at) {
  RawTile raw;
  raw.load_only_row(at);
  TileValues x;
#pragma unroll
  for (int i = 0; i < 4; ++i) x.at[i][0] = low_bf16(raw.row[i]), x.at[i][1] = high_bf16(raw.row[i]);
  return x;
}
/// A tile's rows and those of one and two tokens earlier, which only a featurizer needs.
template <bool Featured, bool Masked, bool Reversed, class Rows>
__device__ inline LaggedValues load_lagged(const Rows& at, const ReachMasks<Reversed>& reach) {
  if constexpr (Featured) {
    RawTile raw;
    raw.load(at);
    return lagged<Masked>(raw, reach);
  } else {
    const TileValues now = load_values(at);
    LaggedValues x;
#pragma unroll
    for (int i = 0; i < 4; ++i) x.at[0][i][0] = now.at[i][0], x.at[0][i][1] = now.at[i][1];
    return x;
  }
}
template <bool Featured>
__device__ inline TileValues value_of(const LaggedValues& x, const float (&w)[featurizer_taps][2]) {
  if constexpr (Featured) {
    return featured(x, w);
  } else {
    TileValues out;
#pragma unroll
    for (int i = 0; i < 4; ++i) out.at[i][0] = x.at[0][i][0], out.at[i][1] = x.at[0][i][1];
    return out;
  }
}
template <bool Featured, bool Masked, bool Reversed, class Rows>
__device__ inline TileValues input_value(const Rows& at, const float (&w)[featurizer_taps][2],
                                         const ReachMasks<Reversed>& reach) {
  return value_of<Featured>(load_lagged<Featured, Masked, Reversed>(at, reach), w);
}

/// Of a tile's gradients what the next tile needs: its last two tokens, which one lane of a channel has.
template <bool Reversed>
__device__ inline void keep_last(float (&last)[2][2], const TileValues& d) {
#pragma unroll
  for (int e = 0; e < 2; ++e)
#pragma unroll
    for (int n = 0; n < 2; ++n) last[e][n] = d.at[Reversed ? e : 2 + e][n];
}

/// row[t-2] = Σ_j w[j] d[t-2+j], and d_w[j] += Σ raw[t-j] d[t]. `last`: keep_last of the tile before. So the results of
/// a tile are the rows of two tokens earlier, and the tile after it is not needed. A lane gets the two tokens before
/// its own from its neighbour, the first one from the last one's other half.
template <bool Masked, bool Reversed = false>
__device__ inline TileValues back_to_earlier_rows(const TileValues& d, const float (&last)[2][2], const LaggedValues& x,
                                                  const float (&w)[featurizer_taps][2],
                                                  float (&d_w)[featurizer_taps][2], const ReachMasks<Reversed>& reach,
                                                  int lane) {
  constexpr int first = TokenOrder<Reversed>::first, second = TokenOrder<Reversed>::second;
  TileValues out;
  const int neighbour = (lane & 28) | ((lane + (Reversed ? 1 : 3)) & 3);
  const bool end = lane % 4 == (Reversed ? 0 : 3);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int e = i % 2, h = i / 2;
    float d_before[2];
#pragma unroll
    for (int n = 0; n < 2; ++n)
      d_before[n] = __shfl_sync(
          ~0u, end ? (h == (Reversed ? 1 : 0) ? last[e][n] : d.at[Reversed ? 2 + e : e][n]) : d.at[i][n], neighbour);
    out.at[i][0] = w[0][e] * d_before[0];
    out.at[i][1] = w[0][e] * d_before[1];
    out.at[i][first] += w[1][e] * masked<Masked>(d_before[second], reach.before[h]);
    out.at[i][second] += w[1][e] * masked<Masked>(d.at[i][first], reach.lag1[h][first]);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      out.at[i][n] += w[2][e] * masked<Masked>(d.at[i][n], reach.lag2[h][n]);
#pragma unroll
      for (int j = 0; j < featurizer_taps; ++j) d_w[j][e] += x.at[j][i][n] * d.at[i][n];
    }
  }
  return out;
}

/// Writes the sums of parameter `index` of the lane's channels to a part [parameters, places]: the four lanes of a
/// channel add theirs. place: the lane's first within the block.
template <int places>
__device__ inline void write_channel_sums(float* part, int index, const float (&sums)[2], int place, int lane) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    float sum = sums[e];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (lane % 4 == 0) part[index * places + place + 8 * e] = sum;
  }
}

/// The same tile with rows of 8 by 8 elements transposed: [16 tokens, 16 channels] as operand A from [channels,
/// tokens].
__device__ inline void transpose_tile(std::uint32_t (&to)[4], const std::uint32_t (&x)[4]) {
  to[0] = transpose_8x8(x[0]);
  to[1] = transpose_8x8(x[2]);
  to[2] = transpose_8x8(x[1]);
  to[3] = transpose_8x8(x[3]);
}
/// to = x for the tokens [low, high) of a tile [tokens, channels], zeros elsewhere.
__device__ inline void keep_rows(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], int low, int high, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = lane / 4 + i % 2 * 8;
    to[i] = token >= low && token < high ? x[i] : 0;
  }
}
/// The sums of d_taps of a warp: sums[b], [16 tokens of d_c, 8 tokens of x], has the products whose lag is
/// 16 b + 15 - row - column; tiles of d_c are reversed. A tile of d_c meets the first halves of the tiles of x;
/// `middle`, the second half of the tile before and its first half, meets their second halves. So both add to the same
/// sums.
template <int Blocks>
struct HalfLagSums {
  float sums[Blocks][4];

  __device__ void clear() {
    for (auto& block : sums)
      for (float& sum : block) sum = 0;
  }
  /// d_c: [tokens, channels]. half: [channels, 8 tokens of x].
  __device__ void add(int block, const std::uint32_t (&d_c)[4], std::uint32_t half0, std::uint32_t half1) {
    mma_16x8x16(sums[block], d_c, half0, half1);
  }
  /// to[lag], of 16 Blocks lags; `memory` has 16 by 9 floats and 16 (Blocks + 1) floats of this warp.
  __device__ void write(float* to, float* memory, int lane) const {
    constexpr int margin = 7, lags = mr_tile * Blocks;
    auto* const block = reinterpret_cast<float(*)[9]>(memory);
    float* const of_lag = memory + mr_tile * 9 + margin;
    __syncwarp();
    for (int i = lane; i < lags + margin; i += 32) of_lag[i - margin] = 0;
#pragma unroll
    for (int b = 0; b < Blocks; ++b) {
      __syncwarp();
#pragma unroll
      for (int e = 0; e < 4; ++e) block[lane / 4 + e / 2 * 8][2 * (lane % 4) + e % 2] = sums[b][e];
      __syncwarp();
      const int diagonal = lane - margin;  // token - column
      if (diagonal < mr_tile) {
        float sum = 0;
#pragma unroll 1
        for (int column = diagonal < 0 ? -diagonal : 0; column < 8 && column + diagonal < mr_tile; ++column)
          sum += block[mr_tile - 1 - column - diagonal][column];
        of_lag[mr_tile * b + diagonal] += sum;
      }
    }
    __syncwarp();
    for (int lag = lane; lag < lags; lag += 32) to[lag] = of_lag[lag];
  }
};

/// x for the tokens [low, high) of the tile, zeros elsewhere; registers: first half of the tokens, then the second.
__device__ inline void keep_halves(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], int low, int high, int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = lane / 4 + i / 2 * 8;
    to[i] = token >= low && token < high ? x[i] : 0;
  }
}
/// The second half of the tokens of a reversed tile [tokens, channels], and the first half of the next one.
__device__ inline void middle_tile(std::uint32_t (&to)[4], const std::uint32_t (&second)[2],
                                   const std::uint32_t (&next)[4]) {
  to[0] = next[1], to[1] = second[0];
  to[2] = next[3], to[3] = second[1];
}
__device__ inline void second_half(std::uint32_t (&to)[2], const std::uint32_t (&d_c)[4]) {
  to[0] = d_c[0], to[1] = d_c[2];
}

/// initial + Σ_b ring[b] H_bᵀ within documents, for the tile ring[0] and those after it, all reversed, so that it is
/// Σ_b ring[b] H_b. Bit i of `here`: a document begins with token i of the tile; `reached`: the tokens after the tile
/// up to the next start. Near: there may be starts.
template <bool Near, int Blocks, bool Twice>
__device__ inline TileValues convolve_later(const ToeplitzFilter<Blocks, Twice>& filter,
                                            const std::uint32_t (&ring)[Blocks][4], const TileValues& initial,
                                            unsigned here, int reached, int lane) {
  TileSums sum;
  filter.begin(sum, initial);
  if constexpr (!Near) {
#pragma unroll
    for (int b = 0; b < Blocks; ++b) filter.multiply(sum, ring[b], b);
    return filter.values(sum);
  }
  // The tokens from the last start on reach the later tiles up to their first start.
  std::uint32_t part[4];
  const auto keep = [&](const std::uint32_t(&from)[4], int low, int high) {
    keep_columns(part, from, mr_tile - high, mr_tile - low, lane);
  };
  const int last = here == 0 ? 0 : 31 - __clz(static_cast<int>(here));
  keep(ring[0], last, mr_tile);
  filter.multiply(sum, part, 0);
  // A lane keeps the second of its two tokens of a half, the lower one, if the tile has more than 14 - 2 (lane % 4) - 8
  // h.
  const int base = 2 * (lane % 4) - 14;
#pragma unroll
  for (int b = 1; b < Blocks; ++b) {
    const int kept = reached - mr_tile * (b - 1);
    if (kept >= mr_tile) {
      filter.multiply(sum, ring[b], b);
    } else if (kept > 0) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int tokens = kept + base + 8 * h;
        const std::uint32_t mask = tokens <= 0 ? 0 : tokens == 1 ? 0xffff0000u : ~0u;
        part[2 * h] = ring[b][2 * h] & mask;
        part[2 * h + 1] = ring[b][2 * h + 1] & mask;
      }
      filter.multiply(sum, part, b);
    }
  }
  if (here == 0) return filter.values(sum);
  const auto replace = [&](int low, int high) {
    keep(ring[0], low, high);
    filter.replace(sum, part, initial, mr_tile - high, mr_tile - low, lane);
  };
  for_each_start(here & ~(1u << last), [&](int low, int high) { replace(low, high < last ? high : last); });
  replace(0, tokens_before(here));
  return filter.values(sum);
}

}  // namespace causeway::cuda::fused_block

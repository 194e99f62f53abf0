#pragma once

#include "kernels/cuda/hyena_block/hyena_block_mr.cuh"

/// Parts of the backward on tensor cores: the featurizer's gradients in the layout of TileValues, products with
/// transposed Toeplitz blocks, and the sums of d_taps.
namespace causeway::cuda::fused_block {

/// What a lane's tokens are reached by from the next two tokens, of one document: bit 4 h + 2 e + (lag - 1) for token
/// 2 (lane % 4) + 8 h + e. Bit b of `starts`: a document begins with token b of the tile, up to b = 17.
__device__ inline unsigned lane_reached(unsigned starts, int lane) {
  unsigned bits = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int token = 2 * (lane % 4) + 8 * h + e;
      if ((starts >> (token + 1) & 1) == 0) bits |= 1u << (4 * h + 2 * e);
      if ((starts >> (token + 1) & 3) == 0) bits |= 2u << (4 * h + 2 * e);
    }
  return bits;
}

/// row[t] = Σ_j w[j] d[t+j]; if `counts`, d_w[j] += Σ raw[t] d[t+j]. `next`: the first tokens of d of the next tile,
/// registers 0 and 1 of its TileValues. A lane gets the two tokens after its own from the lane to the right, the last
/// one from the first lane's next half.
template <bool Masked>
__device__ inline TileValues back_to_rows(const TileValues& d, const float (&next)[2][2], const std::uint32_t (&raw)[4],
                                          const float (&w)[featurizer_taps][2], float (&d_w)[featurizer_taps][2],
                                          bool counts, unsigned reached, int lane) {
  TileValues row;
  const int right = (lane & 28) | ((lane + 1) & 3);
  const bool first = lane % 4 == 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int e = i % 2, bit = i / 2 * 4;
    float after[2];
#pragma unroll
    for (int n = 0; n < 2; ++n)
      after[n] = __shfl_sync(~0u, first ? (i < 2 ? d.at[e + 2][n] : next[e][n]) : d.at[i][n], right);
    const float d_of[2][3] = {{d.at[i][0], d.at[i][1], after[0]}, {d.at[i][1], after[0], after[1]}},
                x[2] = {low_bf16(raw[i]), high_bf16(raw[i])};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      row.at[i][n] = w[0][e] * d_of[n][0];
      if (counts) d_w[0][e] += x[n] * d_of[n][0];
#pragma unroll
      for (int j = 1; j < 3; ++j)
        if (!Masked || (reached >> (bit + 2 * n + j - 1) & 1) != 0) {
          row.at[i][n] += w[j][e] * d_of[n][j];
          if (counts) d_w[j][e] += x[n] * d_of[n][j];
        }
    }
  }
  return row;
}

/// Writes the sums of parameter `index` of the lane's channels to a part [parameters, 64 channels]: the four lanes of a
/// channel add theirs. channel: the lane's first within the block.
__device__ inline void write_channel_sums(float* part, int index, const float (&sums)[2], int channel, int lane) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    float sum = sums[e];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (lane % 4 == 0) part[index * mr_channels + channel + 8 * e] = sum;
  }
}

/// The transposed Toeplitz blocks: d_x_n = Σ_b d_c_{n+b} H_bᵀ, (H_bᵀ)_{ij} = h[16 b + i - j].
template <int Blocks, int Filters>
struct TransposedFilters : ToeplitzFilters<Blocks, Filters> {
  using Base = ToeplitzFilters<Blocks, Filters>;
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
        const int lag = 8 * (i - 1) - lane / 4 + 2 * (lane % 4);
        Base::pairs[f][i] = pack_bf16(tap(lag), tap(lag + 1));
      }
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) Base::second[e] = Filters == 2 && channel + lane / 4 + 8 * e >= (first + 1) * width;
  }
  __device__ void multiply(TileSums (&sum)[Filters], const std::uint32_t (&d_c)[4], int block) const {
#pragma unroll
    for (int f = 0; f < Filters; ++f) {
      mma_16x8x16(sum[f][0], d_c, Base::pairs[f][2 * block + 1], Base::pairs[f][2 * block + 2]);
      mma_16x8x16(sum[f][1], d_c, Base::pairs[f][2 * block], Base::pairs[f][2 * block + 1]);
    }
  }
};

/// initial + Σ_b ring_{n+b} H_bᵀ within documents; the tile `d_c` enters the ring at place 0 (shift_ring). With starts
/// s_1 … s_k in the tile, the tokens from s_k on belong to the document of the later tiles; those before s_1 to that of
/// the earlier ones, and only they stay in the ring.
template <bool Masked, int Blocks, int Filters>
__device__ inline TileValues convolve_back(const TransposedFilters<Blocks, Filters>& filter,
                                           std::uint32_t (&ring)[Blocks][4], const std::uint32_t (&d_c)[4],
                                           const TileValues& initial, unsigned starts, int lane) {
  TileSums sum[Filters];
  filter.begin(sum, initial);
  if (!Masked || starts == 0) {
#pragma unroll
    for (int j = 0; j < 4; ++j) ring[0][j] = d_c[j];
#pragma unroll
    for (int b = 0; b < Blocks; ++b) filter.multiply(sum, ring[(Blocks - b) % Blocks], b);
    return filter.own(sum);
  }
  std::uint32_t masked[4];
  const int last = 31 - __clz(static_cast<int>(starts));
  keep_columns(masked, d_c, last, mr_tile, lane);
  filter.multiply(sum, masked, 0);
#pragma unroll
  for (int b = 1; b < Blocks; ++b) filter.multiply(sum, ring[(Blocks - b) % Blocks], b);
  const auto replace = [&](int low, int high) {
    TileSums replacement[Filters];
    filter.begin(replacement, initial);
    keep_columns(masked, d_c, low, high, lane);
    filter.multiply(replacement, masked, 0);
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int token = 8 * n + 2 * (lane % 4) + e % 2;
#pragma unroll
        for (int f = 0; f < Filters; ++f)
          if (token >= low && token < high) sum[f][n][e] = replacement[f][n][e];
      }
  };
  for_each_start(starts & ~(1u << last), [&](int low, int high) { replace(low, high < last ? high : last); });
  replace(0, tokens_before(starts));
#pragma unroll
  for (int b = 0; b < Blocks; ++b)
#pragma unroll
    for (int j = 0; j < 4; ++j) ring[b][j] = b == 0 ? masked[j] : 0;
  return filter.own(sum);
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
/// to = x for the channels of one of two groups, zeros elsewhere, in a tile [tokens, channels]: those before `split` if
/// not `second`.
__device__ inline void keep_group(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], int split, bool second,
                                  int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int channel = 2 * (lane % 4) + i / 2 * 8;
    to[i] =
        x[i] & (((channel >= split) == second ? 0xffffu : 0u) | ((channel + 1 >= split) == second ? 0xffff0000u : 0u));
  }
}
/// sum += d_c xᵀ for tiles [tokens, channels]: the registers of a tile as operand A are those of its transpose as B.
__device__ inline void multiply_transposed(TileSums& sum, const std::uint32_t (&d_c)[4], const std::uint32_t (&x)[4]) {
  mma_16x8x16(sum[0], d_c, x[0], x[2]);
  mma_16x8x16(sum[1], d_c, x[1], x[3]);
}

/// A warp's last tiles of d_c in shared memory, rows of 32 bytes whose halves are permuted so that matrices of eight
/// rows have no bank conflicts. The number of places is a power of two, so that one is found without a comparison.
template <int Blocks>
struct alignas(128) MrPast {
  static constexpr unsigned places = Blocks > 4 ? 16 : 4, tile_bytes = mr_tile * 32;
  unsigned char tiles[places][tile_bytes];
  /// The offset of the tile `back` tiles before the one at `place` (an offset).
  __device__ static unsigned before(unsigned place, int back) {
    return (place - static_cast<unsigned>(back) * tile_bytes) & (places * tile_bytes - 1);
  }
  __device__ static unsigned offset(int token, int part) {
    return static_cast<unsigned>(token * 32 + (part ^ (token / 4 % 2)) * 16);
  }
  /// Of the row that a lane passes to stmatrix for a tile [channels, tokens], and to ldmatrix for [tokens, channels].
  __device__ static unsigned store_row(int lane) { return offset(lane % 8 + lane / 16 * 8, lane / 8 % 2); }
  __device__ static unsigned load_row(int lane) { return offset(lane % 16, lane / 16); }
};

/// The sums of d_taps of a warp: for each Toeplitz block the products of token i of d_c with token j of x.
template <int Blocks, int Filters>
struct LagSums {
  TileSums sums[Filters][Blocks];

  __device__ void clear() {
    for (auto& of_filter : sums)
      for (auto& block : of_filter)
        for (auto& half : block)
          for (float& sum : half) sum = 0;
  }
  __device__ void add(int block, const std::uint32_t (&d_c)[4], const std::uint32_t (&x)[4], int split, int lane) {
    if constexpr (Filters == 1) {
      multiply_transposed(sums[0][block], d_c, x);
    } else {
      std::uint32_t part[4];
      keep_group(part, x, split, false, lane);
      multiply_transposed(sums[0][block], d_c, part);
      keep_group(part, x, split, true, lane);
      multiply_transposed(sums[1][block], d_c, part);
    }
  }
  /// to[filter][lag], of 16 Blocks lags: the sums along the diagonals i - j of each block, one after the other;
  /// `memory` has 16 by 17 floats and 16 (Blocks + 1) floats of this warp.
  __device__ void write(float* to, float* memory, int lane) const {
    constexpr int margin = mr_tile - 1;
    auto* const block = reinterpret_cast<float(*)[mr_tile + 1]>(memory);
    float* const of_lag = memory + mr_tile * (mr_tile + 1) + margin;
#pragma unroll
    for (int f = 0; f < Filters; ++f) {
      __syncwarp();
      for (int i = lane; i < mr_tile * Blocks + margin; i += 32) of_lag[i - margin] = 0;
#pragma unroll
      for (int b = 0; b < Blocks; ++b) {
        __syncwarp();
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) block[lane / 4 + e / 2 * 8][8 * n + 2 * (lane % 4) + e % 2] = sums[f][b][n][e];
        __syncwarp();
        const int diagonal = lane - margin;
        if (diagonal <= margin) {
          float sum = 0;
          for (int j = diagonal < 0 ? -diagonal : 0; j < (diagonal > 0 ? mr_tile - diagonal : mr_tile); ++j)
            sum += block[j + diagonal][j];
          of_lag[mr_tile * b + diagonal] += sum;
        }
      }
      __syncwarp();
      for (int lag = lane; lag < mr_tile * Blocks; lag += 32) to[f * mr_tile * Blocks + lag] = of_lag[lag];
    }
  }
};

}  // namespace causeway::cuda::fused_block

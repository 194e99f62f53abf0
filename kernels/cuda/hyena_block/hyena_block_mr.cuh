#pragma once

#include "kernels/cuda/device/tile_documents.cuh"
#include "kernels/cuda/hyena_block/hyena_block_ring.cuh"
#include "kernels/cuda/hyena_block/hyena_block_se.cuh"

/// The block with up to 129 taps on tensor cores: parts of its forward and backward. As in blocked_conv_tile.cuh a warp
/// has 16 channels and goes down tiles of 16 tokens, x [16 channels, 16 tokens]: y_n = Σ_b x_{n-b} H_b with Toeplitz
/// blocks (H_b)_{ji} = h[16 b + i - j] that are in registers, as are the last tiles of x, rounded to bf16.
///
/// The featurizer is computed in the layout of the products: ldmatrix of the rows of the tile gives tokens 2t, 2t+1 of
/// a channel; of the rows two tokens earlier, tokens 2t-2, 2t-1; so a lane has all lags of its tokens.
namespace causeway::cuda::fused_block {

inline constexpr int mr_tile = 16, mr_channels = 64, mr_stage_tokens = 32;
inline constexpr unsigned mr_tensor_bytes = mr_stage_tokens * mr_channels * 2,
                          mr_tile_bytes = mr_tile * mr_channels * 2;  ///< of a stage, in shared memory

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

/// What a lane reaches of its tokens' earlier rows, of one document: bit 4 h + 2 e + (lag - 1) for token
/// 2 (lane % 4) + 8 h + e.
__device__ inline unsigned lane_reaches(unsigned starts, int lane) {
  unsigned bits = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int token = 2 * (lane % 4) + 8 * h + e;
      if ((starts >> (16 + token) & 1) == 0) bits |= 1u << (4 * h + 2 * e);
      if ((starts >> (15 + token) & 3) == 0) bits |= 2u << (4 * h + 2 * e);
    }
  return bits;
}

/// One input after the featurizer, from its tile and the tile two tokens earlier. If `Masked`, lags that `reach` lacks
/// are left out.
template <bool Masked>
__device__ inline TileValues featured(const std::uint32_t (&row)[4], const std::uint32_t (&earlier)[4],
                                      const float (&w)[featurizer_taps][2], unsigned reach) {
  TileValues out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float now[2] = {low_bf16(row[i]), high_bf16(row[i])},
                before[2] = {low_bf16(earlier[i]), high_bf16(earlier[i])};
    const int e = i % 2, bit = i / 2 * 4;
    out.at[i][0] = w[0][e] * now[0];
    out.at[i][1] = w[0][e] * now[1];
    if (!Masked || (reach >> bit & 1) != 0) out.at[i][0] += w[1][e] * before[1];
    if (!Masked || (reach >> bit & 2) != 0) out.at[i][0] += w[2][e] * before[0];
    if (!Masked || (reach >> bit & 4) != 0) out.at[i][1] += w[1][e] * now[0];
    if (!Masked || (reach >> bit & 8) != 0) out.at[i][1] += w[2][e] * before[1];
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
template <int Blocks, int Filters>
struct ToeplitzFilters {
  std::uint32_t pairs[Filters][2 * Blocks + 1];
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

/// Makes place 0 of the ring that of the next tile, for a loop that is not unrolled.
template <int Blocks>
__device__ inline void shift_ring(std::uint32_t (&ring)[Blocks][4]) {
#pragma unroll
  for (int b = 1; b < Blocks; ++b)
#pragma unroll
    for (int j = 0; j < 4; ++j) ring[b][j] = ring[(b + 1) % Blocks][j];
}

/// initial + Σ_b ring_{n-b} H_b within documents, for the tile `x` at place c of the ring, which it enters. `initial`
/// holds the terms of skip. If not `Masked`, no document begins in the tile.
template <bool Masked, int Blocks, int Filters>
__device__ inline TileValues convolve(const ToeplitzFilters<Blocks, Filters>& filter, std::uint32_t (&ring)[Blocks][4],
                                      int c, const std::uint32_t (&x)[4], const TileValues& initial, unsigned starts,
                                      int lane) {
  TileSums sum[Filters];
  filter.begin(sum, initial);
  if constexpr (!Masked) {
#pragma unroll
    for (int j = 0; j < 4; ++j) ring[c][j] = x[j];
#pragma unroll
    for (int b = 0; b < Blocks; ++b) filter.multiply(sum, ring[(c + Blocks - b) % Blocks], b);
    return filter.own(sum);
  }
  std::uint32_t masked[4];
  const int before = tokens_before(starts);
  keep_columns(masked, x, 0, before, lane);
  filter.multiply(sum, masked, 0);
#pragma unroll
  for (int b = 1; b < Blocks; ++b) filter.multiply(sum, ring[(c + Blocks - b) % Blocks], b);
  for_each_start(starts, [&](int from, int to) {
    keep_columns(masked, x, from, to, lane);
    filter.replace(sum, masked, initial, from, to, lane);
  });
#pragma unroll
  for (int b = 0; b < Blocks; ++b)  // what stays are the tokens of the last document
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (b == c)
        ring[b][j] = masked[j];
      else if (starts != 0)
        ring[b][j] = 0;
  return filter.own(sum);
}

/// Where a lane's rows are in a stage's tensor of 32 tokens by 64 channels with the 128-byte swizzle of bulk copies:
/// the row that it passes to ldmatrix for a tile of its warp, and the row two tokens earlier.
struct MrAddress {
  unsigned row, earlier;
  bool wraps;  ///< the earlier row is of the tile before
  __device__ MrAddress(int warp, int lane) {
    const int token = lane % 8 + lane / 16 * 8, part = 2 * warp + lane / 8 % 2;
    row = static_cast<unsigned>(token * 128 + (part ^ (token % 8)) * 16);
    earlier = static_cast<unsigned>((token - 2) * 128 + (part ^ ((token + 6) % 8)) * 16);
    wraps = token < 2;
  }
};

/// The stages of a ring that a mover fills, as a computing warp takes them: acquire() waits for the next one and
/// returns the shared address of its tensors, starts(half) is the word of a half of it, and release() says that this
/// warp's results in the oldest one are complete.
template <class Ring>
struct MrRingStages {
  Ring& ring;
  RingPosition<Ring::Stages> next, open;  ///< the next stage to acquire, the oldest to release
  int slot = 0;
  __device__ unsigned acquire() {
    slot = next.slot;
    ring.full[slot].wait(next.parity);
    next.advance();
    return shared_address(ring.rows[slot]);
  }
  __device__ unsigned starts(int half) const { return ring.starts[slot][half]; }
  __device__ void release() {
    arrive_done(ring.done[open.slot]);
    open.advance();
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

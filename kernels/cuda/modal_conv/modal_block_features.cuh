#pragma once

#include <algorithm>

#include "kernels/cuda/modal_conv/modal_conv_mma_pieces.cuh"
#include "kernels/hyena_block.hpp"

/// The featurizer of hyena_block in the backward, on tensor cores: inputs, and the features of the pass from left to
/// right. The features of a tile's tokens 8 to 15 are the tile [16 tiles, 16 tokens] times B, B[s][t] = w[8 + t - s];
/// those of tokens 0 to 7 are the tile half a tile earlier times the same B. The inputs lie in memory as operands lie
/// in registers, and bf16 are multiplied exactly, so f has float32's error.
///
/// Of the half tile before, only its last two tokens count, and every lane loads those. Documents: a product has the
/// tokens of one document of each tile only (LaneDocuments), so NaN stays in its document.
namespace causeway::cuda::modal_mma {

/// q, k and v before the featurizer.
struct BlockRows {
  Rows<const bf16> q, k, v, halo;
  ParameterRows<bf16> featurizer;
  std::int64_t channels;
  int width;    ///< of the featurizer
  int reached;  ///< rows of the halo that the run's first document reaches

  explicit BlockRows(const HyenaBlockInputs& in)
      : q(in.q),
        k(in.k),
        v(in.v),
        halo(in.halo),
        featurizer(in.featurizer),
        channels(in.q.columns()),
        width(static_cast<int>(in.featurizer.columns())),
        reached(in.segments.continues_from_left() ? static_cast<int>(std::min(block_reach(in), -in.segments.host[0]))
                                                  : 0) {}
  __device__ float weight(int input, std::int64_t channel, int lag) const {
    return channel < channels && lag < width ? featurizer(input * channels + channel, width - 1 - lag) : 0.0f;
  }
  __device__ const Rows<const bf16>& of(int input) const { return input == 0 ? q : input == 1 ? k : v; }
  /// An element of an input, in or before the run; zero where there is none.
  __device__ bf16 before(int input, std::int64_t token, std::int64_t channel) const {
    if (channel >= channels || token < -reached) return narrowed<bf16>(0.0f);
    return token < 0 ? halo(width - 1 + token, input * channels + channel) : of(input)(token, channel);
  }
};

/// The last two rows before a unit, of q, k and v: [slot][input][row][warp].
struct FeatureMemory {
  uint2 weights[block_channels][3];  ///< of q, k, v: w[0] and w[1], w[2] and zero
  uint4 rows[2][3][2][computing_warps];

  /// By all threads of a block, which must meet afterwards.
  template <int threads = block_threads>
  __device__ void load_weights(const BlockRows& in, int column) {
    for (int i = static_cast<int>(threadIdx.x); i < 3 * block_channels; i += threads) {
      const int c = i / 3, n = i % 3;
      const auto w = [&](int lag) { return in.weight(n, column * block_channels + c, lag); };
      weights[c][n] = {pack_bf16(w(0), w(1)), pack_bf16(w(2), 0.0f)};
    }
  }
  /// Starts the copy of a row of 8 channels before a unit.
  __device__ void fetch_row(const BlockRows& in, int unit, int slot, std::int64_t channel, int n, int row, int warp) {
    const std::int64_t token = std::int64_t{unit} * unit_tokens - 2 + row;
    uint4& to = rows[slot][n][row][warp];
    if (token >= 0 && channel < in.channels) {
      copy_16_bytes_async(shared_address(&to), &in.of(n)(token, channel), true);
    } else {
      std::uint32_t words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        words[i] = std::uint32_t{in.before(n, token, channel + 2 * i).bits} |
                   std::uint32_t{in.before(n, token, channel + 2 * i + 1).bits} << 16;
      to = {words[0], words[1], words[2], words[3]};
    }
  }
  /// Of a warp's rows; wait_for_async_copies() and the warp's meeting end them.
  __device__ void fetch_rows(const BlockRows& in, int unit, int slot, std::int64_t channel, int warp, int lane) {
    if (lane < 6) fetch_row(in, unit, slot, channel, lane / 2, lane % 2, warp);
    commit_async_copies();
  }
};

/// A warp's channels of an input in a unit, as operands: [channel][th + 2 half of tokens], and [4]: the half tile
/// before tile 2 g.
struct TokenPairs {
  std::uint32_t of[warp_channels][5];

  /// All of a warp's channels. rows: the two rows before the unit.
  __device__ void load(unsigned tensor, const uint4 (&rows)[2][computing_warps], const Pieces& pieces, int warp,
                       int lane) {
    const int odd = pieces.order.odd;
    pieces.pairs<false>(of, tensor);
    pieces.split_rows(of, 4, load_shared_16(before(tensor, rows, odd, warp, lane)),
                      load_shared_16(before(tensor, rows, 1 - odd, warp, lane)));
  }

 private:
  /// Where the row 2 - row before tile 2 g is.
  __device__ static unsigned before(unsigned tensor, const uint4 (&rows)[2][computing_warps], int row, int warp,
                                    int lane) {
    return lane < 4 ? shared_address(&rows[row][warp])
                    : tensor + static_cast<unsigned>((32 * (lane / 4) - 2 + row) * 128 + (warp ^ (6 + row)) * 16);
  }
};

/// What of TokenPairs belongs to one document of each tile: masks of its registers; `middle`: of register 2 (tokens 8
/// to 15 of tile 2 g) as tokens before tile 2 g + 1.
struct PairMasks {
  std::uint32_t own[4], before, middle;

  __device__ PairMasks(const UnitStarts& starts, const LaneDocuments& of_x, unsigned ordinal, int lane) {
#pragma unroll
    for (int i = 0; i < 4; ++i) own[i] = of_x.mask(i, ordinal);
    const bool continues = (starts.words[lane / 4 * 2] >> 15 & 1) == 0;  // no document begins with token -1
    before = ordinal > 0 ? 0u : continues ? ~0u : 0xffff0000u;
    middle = ordinal > 0 ? 0u : of_x.mask(2, of_x.last[0]);
  }
};

/// A lane's operands of the products. Mirrored: outputs by places.
struct FeatureProduct {
  unsigned selectors[2];

  __device__ explicit FeatureProduct(int lane) {
    const int g = lane / 4, j = lane % 4, lag = 8 + g - 2 * j;
    selectors[0] = selector(lag), selectors[1] = selector(lag - 8);
  }
  /// f[half of places or tokens]: of 16 tiles, as the product has it.
  __device__ void multiply(float (&f)[2][4], const std::uint32_t (&x)[5], uint2 weights) const {
    const std::uint32_t whole[4] = {x[0], x[1], x[2], x[3]}, shifted[4] = {x[4], x[2], x[0], x[1]};
    multiply(f, whole, shifted, weights);
  }
  /// The tokens of one document of each tile.
  __device__ void multiply(float (&f)[2][4], const std::uint32_t (&x)[5], uint2 weights, const PairMasks& of) const {
    std::uint32_t whole[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) whole[i] = x[i] & of.own[i];
    const std::uint32_t shifted[4] = {x[4] & of.before, x[2] & of.middle, whole[0], whole[1]};
    multiply(f, whole, shifted, weights);
  }

 private:
  __device__ void multiply(float (&f)[2][4], const std::uint32_t (&whole)[4], const std::uint32_t (&shifted)[4],
                           uint2 weights) const {
    const std::uint32_t b0 = __byte_perm(weights.x, weights.y, selectors[0]),
                        b1 = __byte_perm(weights.x, weights.y, selectors[1]);
    clear(f);
    mma_16x8x16(f[1], whole, b0, b1);
    mma_16x8x16(f[0], shifted, b0, b1);
  }
  /// Of w[lag] and w[lag - 1].
  __device__ static unsigned selector(int lag) {
    const auto half = [](int l) { return l >= 0 && l < 3 ? static_cast<unsigned>(0x10 + 0x22 * l) : 0x76u; };
    return half(lag) | half(lag - 1) << 8;
  }
};

/// Whether a unit needs masks: a document begins in it or with the last token before it.
__device__ inline bool needs_masks(const UnitStarts& starts) {
  return starts.tiles != 0 || (starts.words[0] >> 15 & 1) != 0;
}

/// The product of two inputs' features, not rounded, in two parts of bf16; otherwise as make_features().
__device__ inline void multiply_features(std::uint32_t (*high)[4], std::uint32_t (*low)[4], const TokenPairs& a,
                                         const TokenPairs& b, const FeatureProduct& product, const uint2 (*weights)[3],
                                         const UnitStarts& starts, int lane) {
  const auto split = [](const float(&A)[2][4], const float(&B)[2][4], int n, std::uint32_t& h, std::uint32_t& l) {
    const int e = n % 2 * 2;
    split_pair(A[n / 2][e] * B[n / 2][e], A[n / 2][e + 1] * B[n / 2][e + 1], h, l);
  };
  if (!needs_masks(starts)) {
#pragma unroll
    for (int c = 0; c < warp_channels; ++c) {
      float A[2][4], B[2][4];
      product.multiply(A, a.of[c], weights[c][1]);
      product.multiply(B, b.of[c], weights[c][2]);
#pragma unroll
      for (int n = 0; n < 4; ++n) split(A, B, n, high[c][n], low[c][n]);
    }
    return;
  }
  const LaneDocuments of_x = LaneDocuments::read<false>(starts, lane);
#pragma unroll
  for (int n = 0; n < 4 * warp_channels; ++n) high[n / 4][n % 4] = low[n / 4][n % 4] = 0;
#pragma unroll 1
  for (unsigned ordinal = 0; ordinal <= starts.most; ++ordinal) {
    const PairMasks masks(starts, of_x, ordinal, lane);
#pragma unroll
    for (int c = 0; c < warp_channels; ++c) {
      float A[2][4], B[2][4];
      product.multiply(A, a.of[c], weights[c][1], masks);
      product.multiply(B, b.of[c], weights[c][2], masks);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        std::uint32_t h, l;
        split(A, B, n, h, l);
        high[c][n] |= h & masks.own[n], low[c][n] |= l & masks.own[n];
      }
    }
  }
}

}  // namespace causeway::cuda::modal_mma

#pragma once

#include <algorithm>

#include "kernels/cuda/modal_conv/modal_conv_mma_pieces.cuh"
#include "kernels/hyena_block.hpp"

/// The featurizer of hyena_block in both passes of the backward, on tensor cores. The features of a tile's tokens 8 to
/// 15 are the tile [16 tiles, 16 tokens] times B, B[s][t] = w[8 + t - s]; those of tokens 0 to 7 are the tile half a
/// tile earlier times the same B. The inputs lie in memory as operands lie in registers, and bf16 are multiplied
/// exactly, so f has float32's error before it is rounded.
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
  __device__ void load_weights(const BlockRows& in, int column) {
    for (int i = static_cast<int>(threadIdx.x); i < 3 * block_channels; i += block_threads) {
      const int c = i / 3, n = i % 3;
      const auto w = [&](int lag) { return in.weight(n, column * block_channels + c, lag); };
      weights[c][n] = {pack_bf16(w(0), w(1)), pack_bf16(w(2), 0.0f)};
    }
  }
  /// Starts copies of a warp's rows before a unit; wait_for_async_copies() and the warp's meeting end them.
  __device__ void fetch_rows(const BlockRows& in, int unit, int slot, std::int64_t channel, int warp, int lane) {
    if (lane < 6) {
      const int n = lane / 2, row = lane % 2;
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
    commit_async_copies();
  }
};

/// Channels of an input in a unit, as operands: [channel][th + 2 half of tokens], and [4]: the half tile before tile
/// 2 g.
template <int Channels>
struct TokenPairs {
  std::uint32_t of[Channels][5];

  /// All of a warp's channels. rows: the two rows before the unit.
  __device__ void load_all(unsigned tensor, const uint4 (&rows)[2][computing_warps], const Pieces& pieces, int warp,
                           int lane) {
    const int odd = pieces.order.odd;
    pieces.pairs<false>(of, tensor);
    pieces.split_rows(of, 4, load_shared_16(before(tensor, rows, odd, warp, lane)),
                      load_shared_16(before(tensor, rows, 1 - odd, warp, lane)));
  }
  /// Channels 4 half to 4 half + 3 of a warp.
  __device__ void load(unsigned tensor, const uint4 (&rows)[2][computing_warps], const LaneAddress& at, int half,
                       int warp, int lane) {
    const unsigned part = static_cast<unsigned>(half * 8);
    const auto put = [&](int n, uint2 a, uint2 b) {
      of[0][n] = __byte_perm(a.x, b.x, 0x5410);
      of[1][n] = __byte_perm(a.x, b.x, 0x7632);
      of[2][n] = __byte_perm(a.y, b.y, 0x5410);
      of[3][n] = __byte_perm(a.y, b.y, 0x7632);
    };
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const unsigned from = tensor + static_cast<unsigned>(n % 2 * 2048 + n / 2 * 1024) + part;
      put(n, load_shared_8(from + at.x[0]), load_shared_8(from + at.x[1]));
    }
    put(4, load_shared_8(before(tensor, rows, 0, warp, lane) + part),
        load_shared_8(before(tensor, rows, 1, warp, lane) + part));
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
template <bool Mirrored>
struct FeatureProduct {
  unsigned selectors[2];

  __device__ explicit FeatureProduct(int lane) {
    const int g = lane / 4, j = lane % 4, lag = Mirrored ? 15 - g - 2 * j : 8 + g - 2 * j;
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
    mma_16x8x16(f[Mirrored ? 0 : 1], whole, b0, b1);
    mma_16x8x16(f[Mirrored ? 1 : 0], shifted, b0, b1);
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

/// Features, rounded: [channel][th + 2 half of tokens, or of places].
template <bool Mirrored, int Channels>
__device__ inline void make_features(std::uint32_t (&f)[Channels][4], const TokenPairs<Channels>& x,
                                     const FeatureProduct<Mirrored>& product, const uint2 (*weights)[3], int input,
                                     const UnitStarts& starts, int lane) {
  const auto words = [&](const float(&from)[2][4], int n) {
    return pack_bf16(from[n / 2][n % 2 * 2], from[n / 2][n % 2 * 2 + 1]);
  };
  if (!needs_masks(starts)) {
#pragma unroll
    for (int c = 0; c < Channels; ++c) {
      float to[2][4];
      product.multiply(to, x.of[c], weights[c][input]);
#pragma unroll
      for (int n = 0; n < 4; ++n) f[c][n] = words(to, n);
    }
    return;
  }
  const LaneDocuments of_x = LaneDocuments::read<false>(starts, lane),
                      of_f = Mirrored ? LaneDocuments::read<true>(starts, lane) : of_x;
#pragma unroll
  for (int n = 0; n < 4 * Channels; ++n) f[n / 4][n % 4] = 0;
#pragma unroll 1
  for (unsigned ordinal = 0; ordinal <= starts.most; ++ordinal) {
    const PairMasks masks(starts, of_x, ordinal, lane);
#pragma unroll
    for (int c = 0; c < Channels; ++c) {
      float to[2][4];
      product.multiply(to, x.of[c], weights[c][input], masks);
#pragma unroll
      for (int n = 0; n < 4; ++n) f[c][n] |= words(to, n) & of_f.mask(n, ordinal);
    }
  }
}

/// The product of two inputs' features, not rounded, in two parts of bf16; otherwise as make_features().
__device__ inline void multiply_features(std::uint32_t (*high)[4], std::uint32_t (*low)[4], const TokenPairs<4>& a,
                                         const TokenPairs<4>& b, const FeatureProduct<false>& product,
                                         const uint2 (*weights)[3], const UnitStarts& starts, int lane) {
  const auto split = [](const float(&A)[2][4], const float(&B)[2][4], int n, std::uint32_t& h, std::uint32_t& l) {
    const int e = n % 2 * 2;
    split_pair(A[n / 2][e] * B[n / 2][e], A[n / 2][e + 1] * B[n / 2][e + 1], h, l);
  };
  if (!needs_masks(starts)) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
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
  for (int n = 0; n < 16; ++n) high[n / 4][n % 4] = low[n / 4][n % 4] = 0;
#pragma unroll 1
  for (unsigned ordinal = 0; ordinal <= starts.most; ++ordinal) {
    const PairMasks masks(starts, of_x, ordinal, lane);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
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

#pragma once

#include <type_traits>

#include "kernels/cuda/modal_conv/modal_conv_mma_tiles.cuh"

/// Parts of a lane's work in the backward: documents of tiles in both orders, weighted operands, sums over tiles.
namespace causeway::cuda::modal_mma {

/// Which document of its tile each of a lane's 8 elements belongs to; bytes as in LaneOrdinals, of tokens or of places.
struct LaneDocuments {
  unsigned of[2], last[2];  ///< [th]; `last`: the number of the tile's last document
  template <bool Places>
  __device__ static LaneDocuments read(const UnitStarts& starts, int lane) {
    LaneDocuments d;
    const int g = lane / 4, j = lane % 4;
#pragma unroll
    for (int th = 0; th < 2; ++th) {
      const unsigned word = starts.words[2 * g + th] >> 16;
      d.of[th] = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int slot = 2 * j + 8 * (i / 2) + i % 2, token = Places ? 15 - slot : slot;
        d.of[th] |= static_cast<unsigned>(__popc(word & ((2u << token) - 1))) << 8 * i;
      }
      d.last[th] = static_cast<unsigned>(__popc(word));
    }
    return d;
  }
  __device__ bool is(int n, unsigned ordinal) const {  ///< of element [half][2 th + e]
    return (of[n % 4 / 2] >> (16 * (n / 4) + 8 * (n % 2)) & 0xff) == ordinal;
  }
  __device__ unsigned mask(int i, unsigned ordinal) const {  ///< of register i = th + 2 half
    const unsigned two = of[i % 2] >> 16 * (i / 2);
    return ((two & 0xff) == ordinal ? 0xffffu : 0u) | ((two >> 8 & 0xff) == ordinal ? 0xffff0000u : 0u);
  }
  /// Elements of one document of each tile.
  __device__ void keep(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], unsigned ordinal) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = x[i] & mask(i, ordinal);
  }
  __device__ void keep_last(std::uint32_t (&to)[4], const std::uint32_t (&x)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = x[i] & mask(i, last[i % 2]);
  }
};

/// Sums of a range in the L2 cache. Each address belongs to one thread, so its sums are in the order of the calls.
__device__ inline void add_to(float* to, float x) {
  asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(to), "f"(x) : "memory");
}
__device__ inline void add_to_4(float* to, float x, float y, float z, float w) {
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x), "f"(y), "f"(z), "f"(w)
               : "memory");
}
/// Stores as one instruction with a condition: a branch costs 40 cycles.
__device__ inline void store_if(bool yes, float* to, std::uint32_t x) {
  asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; @p st.global.u32 [%0], %1;}" ::"l"(to), "r"(x),
               "r"(static_cast<unsigned>(yes))
               : "memory");
}
__device__ inline void store_shared_if(bool yes, unsigned at, std::uint32_t x) {
  asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; @p st.shared.u32 [%0], %1;}" ::"r"(at), "r"(x),
               "r"(static_cast<unsigned>(yes))
               : "memory");
}
__device__ inline void store_shared_16_if(bool yes, unsigned at, uint4 x) {
  asm volatile("{.reg .pred p; setp.ne.u32 p, %5, 0; @p st.shared.v4.u32 [%0], {%1, %2, %3, %4};}" ::"r"(at), "r"(x.x),
               "r"(x.y), "r"(x.z), "r"(x.w), "r"(static_cast<unsigned>(yes))
               : "memory");
}

/// LaneDocuments where no tile has two starts.
struct LaneStart {
  unsigned before[4], last[2];  ///< masks of tokens before a tile's start
  template <bool Places>
  __device__ static LaneStart read(const UnitStarts& starts, int lane) {
    const LaneDocuments all = LaneDocuments::read<Places>(starts, lane);
    LaneStart d;
    d.last[0] = all.last[0], d.last[1] = all.last[1];
#pragma unroll
    for (int i = 0; i < 4; ++i) d.before[i] = all.mask(i, 0);
    return d;
  }
  __device__ bool is(int n, unsigned ordinal) const {
    return ((before[n % 4 / 2 + n / 4 * 2] >> 16 * (n % 2) & 1) != 0) == (ordinal == 0);
  }
  __device__ unsigned mask(int i, unsigned ordinal) const { return ordinal == 0 ? before[i] : ~before[i]; }
  __device__ void keep(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], unsigned ordinal) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = x[i] & mask(i, ordinal);
  }
  __device__ void keep_last(std::uint32_t (&to)[4], const std::uint32_t (&x)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i] = x[i] & mask(i, last[i % 2]);
  }
};

/// A unit's documents, in both orders of slots. Starts: most starts of a tile: 0, 1, or 2 for any number.
template <int Starts>
struct UnitDocuments {
  using Lane = std::conditional_t<Starts == 1, LaneStart, LaneDocuments>;
  const UnitStarts* starts;
  Lane tokens, places;
  unsigned after[2];  ///< [th]: bit t: a document begins with token t, of the tile and the next one

  __device__ UnitDocuments(const UnitStarts& of, int lane) : starts(&of) {
    if constexpr (Starts > 0) {
      tokens = Lane::template read<false>(of, lane);
      places = Lane::template read<true>(of, lane);
#pragma unroll
      for (int th = 0; th < 2; ++th) {
        const int n = lane / 4 * 2 + th;
        after[th] = of.words[n] >> 16 | ((n + 1 < tile_tokens ? of.words[n + 1] : 0u) & 0xffff0000u);
      }
    }
  }
  template <bool Places>
  __device__ const Lane& of() const {
    return Places ? places : tokens;
  }
  /// Calls compute(ordinal) for the ordinals from `first` to the last but `without`.
  template <class Compute>
  __device__ __forceinline__ void for_each(unsigned first, unsigned without, const Compute& compute) const {
    if constexpr (Starts == 1) {
#pragma unroll
      for (unsigned ordinal = first; ordinal <= 1 - without; ++ordinal) compute(ordinal);
    } else {
#pragma unroll 1
      for (unsigned ordinal = first; ordinal + without <= starts->most; ++ordinal) compute(ordinal);
    }
  }
  /// Which pairs reach one and two tokens further on, of word i.
  template <bool Places>
  __device__ void reach(unsigned& one, unsigned& two, int i, int lane) const {
    const int slot = 2 * (lane % 4) + 8 * (i / 2);
    const unsigned word = after[i % 2] >> (Places ? 15 - slot : slot + 1), either = word | word >> 1;
    const auto spread = [](unsigned bits) {
      const unsigned low = Places ? 2u : 1u, high = Places ? 1u : 2u;
      return ((bits & low) == 0 ? 0xffffu : 0u) | ((bits & high) == 0 ? 0xffff0000u : 0u);
    };
    one = spread(word), two = spread(either);
  }
};

struct TwoParts {
  std::uint32_t high[4], low[4];
};
/// x times 15 - slot, still 2^-17: `weights` [half] are pairs of bf16.
__device__ inline TwoParts weighted(const TwoParts& x, const std::uint32_t (&weights)[2]) {
  TwoParts out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t w = weights[i / 2];
    out.high[i] = multiply_add_bf16_pairs(x.high[i], w, 0x80008000u);
    out.low[i] = multiply_add_bf16_pairs(x.low[i], w, multiply_add_bf16_pairs(x.high[i], w, out.high[i] ^ 0x80008000u));
  }
  return out;
}

/// Sums of dc_i x_j of tiles along diagonals, in 4 registers: lag g - 2 j - e, and 8 more. The product of the second
/// half of x leaves out the first 8 tokens of dc, whose lags are negative.
__device__ inline void add_lags(float (&to)[4], const TwoParts& dc, const TwoParts& x) {
  std::uint32_t Dh[4], Dl[4], Xh[4],
      Xl[4];  // [th + 2 half] transposed; of dc, half 0 has places 0 to 7, tokens 15 to 8
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    Dh[i] = transpose_8x8(dc.high[i]), Dl[i] = transpose_8x8(dc.low[i]);
    Xh[i] = transpose_8x8(x.high[i]), Xl[i] = transpose_8x8(x.low[i]);
  }
  // Operand A: row g is place g + 8 half, that is token 15 - 8 half - g. So a row's lag is 15 - 8 half - g - j.
  const std::uint32_t ah[4] = {Dh[2], Dh[0], Dh[3], Dh[1]}, al[4] = {Dl[2], Dl[0], Dl[3], Dl[1]};
  mma_16x8x16(to, ah, Xh[0], Xh[1]);
  mma_16x8x16(to, ah, Xl[0], Xl[1]);
  mma_16x8x16(to, al, Xh[0], Xh[1]);
  const std::uint32_t bh[4] = {Dh[0], 0, Dh[1], 0}, bl[4] = {Dl[0], 0, Dl[1], 0};
  mma_16x8x16(to, bh, Xh[2], Xh[3]);
  mma_16x8x16(to, bh, Xl[2], Xl[3]);
  mma_16x8x16(to, bl, Xh[2], Xh[3]);
}
/// Sums 8 values of each lane over g; lane g keeps value g.
__device__ inline float sum_over_tiles(const float (&values)[8], int lane) {
  float four[4], two[2];
  const bool a = (lane & 16) != 0, b = (lane & 8) != 0, c = (lane & 4) != 0;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    four[i] = (a ? values[i + 4] : values[i]) + __shfl_xor_sync(~0u, a ? values[i] : values[i + 4], 16);
#pragma unroll
  for (int i = 0; i < 2; ++i) two[i] = (b ? four[i + 2] : four[i]) + __shfl_xor_sync(~0u, b ? four[i] : four[i + 2], 8);
  return (c ? two[1] : two[0]) + __shfl_xor_sync(~0u, c ? two[0] : two[1], 4);
}

}  // namespace causeway::cuda::modal_mma

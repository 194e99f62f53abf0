#pragma once

#include "kernels/cuda/device/launch.cuh"
#include "kernels/cuda/modal_conv/modal_conv_mma.cuh"

/// Parts of a lane's work in both directions: starts of documents, the scan over a unit's tiles, operands and products.
namespace causeway::cuda::modal_mma {

/// a b + c in pairs of bf16, rounded once.
__device__ inline std::uint32_t multiply_add_bf16_pairs(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
__device__ inline uint4 load_shared_16(unsigned at) {
  uint4 x;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "r"(at)
               : "memory");
  return x;
}
__device__ inline uint2 load_shared_8(unsigned at) {
  uint2 x;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(x.x), "=r"(x.y) : "r"(at) : "memory");
  return x;
}
__device__ inline void store_shared_8(unsigned at, uint2 x) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(at), "r"(x.x), "r"(x.y) : "memory");
}
__device__ inline void store_shared_16(unsigned at, uint4 x) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}

/// The product of pairs of bf16, exactly, as high + low.
__device__ inline void exact_product(std::uint32_t a, std::uint32_t b, std::uint32_t& high, std::uint32_t& low) {
  high = multiply_add_bf16_pairs(a, b, 0x80008000u);
  low = multiply_add_bf16_pairs(a, b, high ^ 0x80008000u);
}
/// x and y as two pairs of bf16, high + low, to 2^-17.
__device__ inline void split_pair(float x, float y, std::uint32_t& high, std::uint32_t& low) {
  high = pack_bf16(x, y);
  low = pack_bf16(x - low_bf16(high), y - high_bf16(high));
}

/// A unit's documents, as a lane needs them. Bit n of `tiles`: a document begins in tile n.
struct UnitStarts {
  unsigned words[tile_tokens];  ///< of each tile: bit 16 + t if a document begins with token t; the 16 tokens before it
  unsigned tiles, most;         ///< most starts of a tile
  unsigned reversed;            ///< `tiles`, bit 15 - n
};

/// By a warp: the starts of the unit that begins with `token`; StartReader's next word must be this one.
__device__ inline void read_starts(StartReader& reader, std::int64_t token, UnitStarts& to, int lane) {
  unsigned mine = 0;
#pragma unroll 1
  for (int n = 0; n < tile_tokens; ++n) {
    const unsigned word = reader.word(token + n * tile_tokens, tile_tokens, lane);
    if (lane == n) mine = word;
  }
  const unsigned here = mine >> 16, tiles = __ballot_sync(~0u, here != 0), opposite = __shfl_sync(~0u, here, 15 - lane),
                 reversed = __ballot_sync(~0u, lane < tile_tokens && opposite != 0);
  unsigned most = static_cast<unsigned>(__popc(here));
#pragma unroll
  for (int other = 1; other < 32; other *= 2) {
    const unsigned theirs = __shfl_xor_sync(~0u, most, other);
    most = theirs > most ? theirs : most;
  }
  if (lane < tile_tokens) to.words[lane] = mine;
  if (lane == 0) to.tiles = tiles, to.reversed = reversed, to.most = most;
  __syncwarp();
}

/// How a lane's tiles 2 g and 2 g + 1 take part in a unit's scan: which states pass from tile to tile.
struct TileReach {
  bool pair, odd, first, enter, step[3];

  /// tiles: bit n if a state does not pass through tile n.
  __device__ TileReach(unsigned tiles, int lane) {
    const int g = lane / 4;
    const unsigned mine = tiles >> (2 * g);
    pair = (mine & 2) == 0;  // through tile 2 g + 1
    odd = (mine & 1) == 0;   // through tile 2 g
    first = g == 0;
    enter = first && (mine & 3) == 0;
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const int pairs = 1 << i;
      step[i] = g >= pairs && (tiles << (30 - 2 * g) >> (32 - 2 * pairs)) == 0;
    }
  }
};

/// The scan over a unit's tiles. sums[half][2 th + e]: what tile 2 g + th adds to the mode of place 2 half + e.
/// `entering` [th][place] becomes the states that enter the tiles; returned is the state after the lane's tiles. carry:
/// the states that enter the unit. decay: λ^16, λ^32, λ^64 of the lane's modes. `Reversed`: from the last tile to the
/// first; then reach is TileReach(reversed tiles, 31 - lane).
template <bool Reversed = false>
__device__ inline void scan_tiles(const float (&sums)[2][4], const float (&decay)[3][4], const float (&carry)[4],
                                  const TileReach& reach, int lane, float (&entering)[2][4], float (&after)[4]) {
  constexpr int first = Reversed ? 1 : 0, second = 1 - first, step = Reversed ? -4 : 4;
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    const float even = sums[p / 2][2 * first + p % 2], odd = sums[p / 2][2 * second + p % 2], d = decay[0][p];
    float total = odd;
    if (reach.pair) total += d * even;
    if (reach.enter) total += decay[1][p] * carry[p];
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      const float power = i < 2 ? decay[i + 1][p] : decay[2][p] * decay[2][p];
      const float before = __shfl_sync(~0u, total, lane - step * (1 << i));
      if (reach.step[i]) total += power * before;
    }
    const float before = __shfl_sync(~0u, total, lane - step);
    entering[first][p] = reach.first ? carry[p] : before;
    entering[second][p] = even;
    if (reach.odd) entering[second][p] += d * entering[first][p];
    after[p] = total;
  }
}

/// scan_tiles() of two channels together.
template <bool Reversed>
__device__ inline void scan_pair(const float (&sums)[2][2][4], const float (&decay)[2][3][4],
                                 const float (&carry)[2][4], const TileReach& reach, int lane,
                                 float (&entering)[2][2][4], float (&after)[2][4]) {
  constexpr int first = Reversed ? 1 : 0, second = 1 - first, step = Reversed ? -4 : 4;
  float total[8];
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const int c = n / 4, p = n % 4;
    total[n] = sums[c][p / 2][2 * second + p % 2];
    if (reach.pair) total[n] += decay[c][0][p] * sums[c][p / 2][2 * first + p % 2];
    if (reach.enter) total[n] += decay[c][1][p] * carry[c][p];
  }
#pragma unroll
  for (int i = 0; i < 3; ++i)
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float(&d)[3][4] = decay[n / 4];
      const float power = i < 2 ? d[i + 1][n % 4] : d[2][n % 4] * d[2][n % 4];
      const float before = __shfl_sync(~0u, total[n], lane - step * (1 << i));
      if (reach.step[i]) total[n] += power * before;
    }
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const int c = n / 4, p = n % 4;
    const float before = __shfl_sync(~0u, total[n], lane - step);
    entering[c][first][p] = reach.first ? carry[c][p] : before;
    entering[c][second][p] = sums[c][p / 2][2 * first + p % 2];
    if (reach.odd) entering[c][second][p] += decay[c][0][p] * entering[c][first][p];
    after[c][p] = total[n];
  }
}

/// The order in which a lane loads the rows of a pair of tokens. Lanes of an even and of an odd g differ, since rows of
/// their tiles lie in the same banks. low, high: __byte_perm() of two loaded words, to a pair of tokens of a channel.
struct RowOrder {
  int odd;
  unsigned low, high;
  __device__ explicit RowOrder(int lane)
      : odd(lane / 4 % 2), low(odd == 0 ? 0x5410 : 0x1054), high(odd == 0 ? 0x7632 : 0x3276) {}
  __device__ unsigned of(const unsigned (&rows)[2], int e) const { return odd == 0 ? rows[e] : rows[1 - e]; }
};
/// Where a lane's 16-byte parts of 8 channels are in a tensor of 256 tokens by 64 channels.
struct LaneAddress {
  unsigned x[2], place[2];  ///< of tile 2 g: token 2 j + e; token 15 - 2 j - e. Add 2048 th, 1024 half (place: less)
  __device__ LaneAddress(int warp, int lane) {
    const int g = lane / 4, j = lane % 4;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      x[e] = static_cast<unsigned>((32 * g + 2 * j + e) * 128 + (warp ^ (2 * j + e)) * 16);
      place[e] = static_cast<unsigned>((32 * g + 15 - 2 * j - e) * 128 + (warp ^ (7 - 2 * j - e)) * 16);
    }
  }
};

__device__ inline void clear(float (&x)[2][4]) {
#pragma unroll
  for (int n = 0; n < 8; ++n) x[n / 4][n % 4] = 0;
}
__device__ inline void keep(std::uint32_t (&to)[4], const std::uint32_t (&x)[4], const unsigned (&masks)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] = x[i] & masks[i];
}
/// to += x operand, each in two parts: high high, high low, low high.
__device__ inline void multiply_parts(float (&to)[4], const std::uint32_t (&high)[4], const std::uint32_t (&low)[4],
                                      std::uint32_t h0, std::uint32_t h1, std::uint32_t l0, std::uint32_t l1) {
  mma_16x8x16(to, high, h0, h1);
  mma_16x8x16(to, high, l0, l1);
  mma_16x8x16(to, low, h0, h1);
}

__device__ inline void load_4(float (&to)[4], const void* from) {
  const uint4 x = load_shared_16(shared_address(from));
  to[0] = __uint_as_float(x.x), to[1] = __uint_as_float(x.y), to[2] = __uint_as_float(x.z),
  to[3] = __uint_as_float(x.w);
}
__device__ inline uint4 pack_4(const float (&x)[4]) {
  return {__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3])};
}

/// What tile sums are made with, of one channel: λ^(15 - token) as operand B, both parts.
struct Powers {
  uint4 high, low;
  __device__ void load(const ChannelConstants& of, int lane) {
    high = load_shared_16(shared_address(of.power[0][lane]));
    low = load_shared_16(shared_address(of.power[1][lane]));
  }
  /// What each tile adds to the states: [mode half][...].
  __device__ void sum(float (&sums)[2][4], const std::uint32_t (&xh)[4], const std::uint32_t (&xl)[4]) const {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[n][e] = 0;
    multiply_parts(sums[0], xh, xl, high.x, high.y, low.x, low.y);
    multiply_parts(sums[1], xh, xl, high.z, high.w, low.z, low.w);
  }
  /// to += states in two parts times λ^(15 - place).
  __device__ void expand(float (&to)[2][4], const std::uint32_t (&sh)[4], const std::uint32_t (&sl)[4]) const;
};
/// The same, transposed: what states are expanded with.
struct TransposedPowers {
  std::uint32_t high[4], low[4];
  __device__ explicit TransposedPowers(const Powers& of)
      : high{transpose_8x8(of.high.x), transpose_8x8(of.high.z), transpose_8x8(of.high.y), transpose_8x8(of.high.w)},
        low{transpose_8x8(of.low.x), transpose_8x8(of.low.z), transpose_8x8(of.low.y), transpose_8x8(of.low.w)} {}
  __device__ void expand(float (&to)[2][4], const std::uint32_t (&sh)[4], const std::uint32_t (&sl)[4]) const {
    multiply_parts(to[0], sh, sl, high[0], high[1], low[0], low[1]);
    multiply_parts(to[1], sh, sl, high[2], high[3], low[2], low[3]);
  }
};
__device__ inline void Powers::expand(float (&to)[2][4], const std::uint32_t (&sh)[4],
                                      const std::uint32_t (&sl)[4]) const {
  TransposedPowers(*this).expand(to, sh, sl);
}
/// The filter's first 16 taps as operand B: place p, token t: h[15 - p - t].
struct Taps {
  std::uint32_t high[2], low[2];
  __device__ void load(const ChannelConstants& of, int lane) {
    const int at = lane / 4 + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      high[n] = of.taps[0][15 - 8 * n - at + 6];
      low[n] = of.taps[1][15 - 8 * n - at + 6];
    }
  }
  __device__ void multiply(float (&to)[2][4], const std::uint32_t (&xh)[4], const std::uint32_t (&xl)[4]) const {
    multiply_parts(to[0], xh, xl, high[0], high[1], low[0], low[1]);
    multiply_parts(to[1], xh, xl, high[1], 0, low[1], 0);
  }
};

/// States that enter tiles, times residue λ, as operands in two parts: register th + 2 half.
__device__ inline void state_operands(const float (&entering)[2][4], const float (&scale)[4], std::uint32_t (&high)[4],
                                      std::uint32_t (&low)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int p = i / 2 * 2;
    split_pair(entering[i % 2][p] * scale[p], entering[i % 2][p + 1] * scale[p + 1], high[i], low[i]);
  }
}

}  // namespace causeway::cuda::modal_mma

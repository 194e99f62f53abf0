#pragma once

#include "kernels/cuda/modal_conv/modal_block_features.cuh"

/// The featurizer and its adjoint in the pass from right to left, by products of a unit's pairs as operands have them.
///
/// A *slot* of a tile is a token, or by places token 15 - slot. Either product takes slots that follow in one
/// direction: out(slot) = Σ w[lag] in(slot ± lag). The outputs of half a tile are its own slots and those of the half
/// tile beside it, of which only the nearest pair counts, and every lane of the tile has that pair. For half of the
/// outputs the half tile beside is in the same tile.
namespace causeway::cuda::modal_mma {

/// Words are th + 2 half. Of the pairs beside a tile one is in a lane's own other tile, word `inner`, and one in
/// another lane's, word `outer`; at the unit's edge it is in another unit.
template <bool Places, bool Adjoint>
struct SlotProduct {
  static constexpr bool later = Places != Adjoint;  ///< whether slots after the own one are taken
  static constexpr int outer = Places ? (Adjoint ? 2 : 1) : (Adjoint ? 0 : 3),
                       inner = Places ? (Adjoint ? 3 : 0) : (Adjoint ? 1 : 2);
  unsigned selectors[2];
  int source, next;  ///< lanes
  bool edge, first;  ///< `first`: the lane whose pair the tile beside takes

  __device__ explicit SlotProduct(int lane) {
    const int g = lane / 4, j = lane % 4, lag = later ? 2 * j - g : 8 + g - 2 * j;
    selectors[0] = selector(lag), selectors[1] = selector(later ? lag + 8 : lag - 8);
    source = (lane - j + (Adjoint ? 4 : -4) + (later ? 0 : 3)) & 31;
    edge = g == (Adjoint ? 7 : 0);
    first = j == (later ? 0 : 3);
    next = lane - j + (later ? j + 1 : j + 3) % 4;
  }
  __device__ std::uint32_t outer_pair(std::uint32_t word, std::uint32_t at_edge) const {
    const std::uint32_t theirs = __shfl_sync(~0u, word, source);
    return edge ? at_edge : theirs;
  }
  /// f[half][2 th + e].
  __device__ void multiply(float (&f)[2][4], const std::uint32_t (&w)[4], std::uint32_t in, std::uint32_t out,
                           uint2 weights) const {
    const std::uint32_t b0 = __byte_perm(weights.x, weights.y, selectors[0]),
                        b1 = __byte_perm(weights.x, weights.y, selectors[1]);
    const std::uint32_t even = Adjoint ? in : out, odd = Adjoint ? out : in;
    const std::uint32_t beside[4] = {later ? w[2] : even, later ? w[3] : odd, later ? even : w[0], later ? odd : w[1]};
    clear(f);
    mma_16x8x16(f[later ? 0 : 1], w, b0, b1);
    mma_16x8x16(f[later ? 1 : 0], beside, b0, b1);
  }
  /// The elements one and two slots further on.
  __device__ void shift(std::uint32_t (&one)[4], std::uint32_t (&two)[4], const std::uint32_t (&w)[4],
                        std::uint32_t out) const {
    const std::uint32_t even = Adjoint ? w[inner] : out, odd = Adjoint ? out : w[inner];
    const std::uint32_t chain[4] = {later ? w[2] : even, later ? w[3] : odd, later ? even : w[0], later ? odd : w[1]};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      two[i] = __shfl_sync(~0u, first ? chain[i] : w[i], next);
      one[i] = later ? __byte_perm(w[i], two[i], 0x5432) : __byte_perm(two[i], w[i], 0x5432);
    }
  }

 private:
  /// Of w[lag] and the next slot's.
  __device__ static unsigned selector(int lag) {
    const auto half = [](int l) { return l >= 0 && l < 3 ? static_cast<unsigned>(0x10 + 0x22 * l) : 0x76u; };
    return half(lag) | half(later ? lag + 1 : lag - 1) << 8;
  }
};

/// The product of a pair of channels. at_edge: the pairs of the unit beside, of its first or last document.
template <int Starts, bool Places, bool Adjoint>
__device__ __forceinline__ void multiply_slots(float (&f)[2][2][4], std::uint32_t (&out)[2],
                                               const std::uint32_t (&w)[2][4], const std::uint32_t (&at_edge)[2],
                                               const SlotProduct<Places, Adjoint>& by, const uint2 (&weights)[2],
                                               const UnitDocuments<Starts>& documents) {
  using Product = SlotProduct<Places, Adjoint>;
  const auto& of = documents.template of<Places>();
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    std::uint32_t word = w[c][Product::outer];
    if constexpr (Starts > 0) word &= of.mask(Product::outer, Adjoint ? 0u : of.last[1]);
    out[c] = by.outer_pair(word, at_edge[c]);
  }
  if constexpr (Starts == 0) {
#pragma unroll
    for (int c = 0; c < 2; ++c) by.multiply(f[c], w[c], w[c][Product::inner], out[c], weights[c]);
  } else {
    clear(f[0]), clear(f[1]);
    const unsigned inner = of.mask(Product::inner, Adjoint ? 0u : of.last[0]);
    documents.for_each(0, 0, [&](unsigned ordinal) {
      const bool in = ordinal == (Adjoint ? of.last[0] : 0u), beyond = ordinal == (Adjoint ? of.last[1] : 0u);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        std::uint32_t own[4];
        of.keep(own, w[c], ordinal);
        float to[2][4];
        by.multiply(to, own, in ? w[c][Product::inner] & inner : 0u, beyond ? out[c] : 0u, weights[c]);
#pragma unroll
        for (int n = 0; n < 8; ++n)
          if (of.is(n, ordinal)) f[c][n / 4][n % 4] = to[n / 4][n % 4];
      }
    });
  }
}

/// A word that nobody reads the products of.
__device__ inline std::uint32_t any_word() {
  std::uint32_t x;
  asm volatile("" : "=r"(x));
  return x;
}

/// Σ x(slot) d(slot), d one and two further on: products of tiles with tiles, of which the diagonals count. Lanes of
/// which lane % 4 is g / 2 have those of tiles 2 g and 2 g + 1, which are the halves of a row.
__device__ inline void multiply_diagonals(float (&sums)[3], const std::uint32_t (&x)[4], const std::uint32_t (&d)[4],
                                          const std::uint32_t (&one)[4], const std::uint32_t (&two)[4], int lane) {
  float a[4] = {0, 0, 0, 0}, b[4] = {0, 0, 0, 0};
#pragma unroll
  for (int h = 0; h < 4; h += 2) {
    const std::uint32_t plain[4] = {d[h], one[h], d[h + 1], one[h + 1]},
                        further[4] = {two[h], any_word(), two[h + 1], any_word()};
    mma_16x8x16(a, plain, x[h], x[h + 1]);
    mma_16x8x16(b, further, x[h], x[h + 1]);
  }
  const bool second = lane / 4 % 2 == 1;
  sums[0] = second ? a[1] : a[0], sums[1] = second ? a[3] : a[2], sums[2] = second ? b[1] : b[0];
}

}  // namespace causeway::cuda::modal_mma

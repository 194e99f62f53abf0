#pragma once

#include <algorithm>
#include <cstdint>

/// Products with a Toeplitz matrix H_{ij} = h[i-j], for a vector of channels. R rows at a time are in registers. The
/// matrix is never written out, and no entry outside the filter is multiplied: 0·∞ would give another token a NaN.
namespace causeway::cpu {

/// sum[r] += Σ_l taps[l] · x[Direction·(r-l)] over the lags l of [0, length) that read no further back than
/// x[-Direction·before]: row r has before + r + 1 of them. Direction +1 reads earlier tokens (H), -1 later ones (Hᵀ).
template <int Direction, int R, class V>
[[gnu::always_inline]] inline void multiply_toeplitz(const V* taps, std::int64_t length, const V* x,
                                                     std::int64_t before, V (&sum)[R]) {
  // The lags that all rows have, four at a time, so that a loaded element is used for several of them.
  const std::int64_t all = std::min(length, before + 1);
  constexpr int unrolled = 4;
  std::int64_t lag = 0;
  for (; lag + unrolled <= all; lag += unrolled) {
    const V *const h = taps + lag, *const s = x - Direction * lag;
    V source[R + unrolled - 1];
    for (int i = 0; i < R + unrolled - 1; ++i) source[i] = s[Direction * (i - unrolled + 1)];
    for (int l = 0; l < unrolled; ++l)
      for (int r = 0; r < R; ++r) sum[r] += h[l] * source[r - l + unrolled - 1];
  }
  for (; lag < all; ++lag)
    for (int r = 0; r < R; ++r) sum[r] += taps[lag] * x[Direction * (r - lag)];
      // The lags that only the later rows have.
#pragma GCC unroll 8
  for (int later = 1; later < R; ++later)
    if (const std::int64_t l = before + later; l < length)
      for (int r = later; r < R; ++r) sum[r] += taps[l] * x[Direction * (r - l)];
}

/// y = H x (Direction +1) or Hᵀ x (-1) for `count` rows of one document, 8 rows at a time. x points to the first row's
/// token. The sum includes `reach` more tokens of the document before the first row (+1) or after the last row (-1).
template <int Direction, class V>
void multiply_toeplitz_rows(const V* taps, std::int64_t length, const V* x, std::int64_t count, std::int64_t reach,
                            V* y) {
  std::int64_t i = 0;
  const auto multiply = [&]<int R>() {
    for (; i + R <= count; i += R) {
      V sum[R] = {};
      if constexpr (Direction > 0) {
        multiply_toeplitz<1>(taps, length, x + i, reach + i, sum);
        for (int r = 0; r < R; ++r) y[i + r] = sum[r];
      } else {  // each R rows from the last one backwards
        multiply_toeplitz<-1>(taps, length, x + i + R - 1, reach + count - i - R, sum);
        for (int r = 0; r < R; ++r) y[i + R - 1 - r] = sum[r];
      }
    }
  };
  multiply.template operator()<8>();
  multiply.template operator()<4>();
  multiply.template operator()<2>();
  multiply.template operator()<1>();
}

/// sum[r] += Σ g[t] · x[t-lag-r] over tokens t of [first, last) with t-lag-r >= start: the gradients of R taps.
template <int R, class V>
[[gnu::always_inline]] inline void correlate(const V* g, const V* x, std::int64_t lag, std::int64_t first,
                                             std::int64_t last, std::int64_t start, V (&sum)[R]) {
  std::int64_t t = std::max(first, start + lag);
  for (const std::int64_t stop = std::min(last, start + lag + R - 1); t < stop; ++t)
    for (int r = 0; r < R; ++r)
      if (t - lag - r >= start) sum[r] += g[t] * x[t - lag - r];
  constexpr int unrolled = 4;
  for (; t + unrolled <= last; t += unrolled) {
    const V* const s = x + t - lag;
    V source[R + unrolled - 1];
    for (int i = 0; i < R + unrolled - 1; ++i) source[i] = s[i - R + 1];
    for (int v = 0; v < unrolled; ++v)
      for (int r = 0; r < R; ++r) sum[r] += g[t + v] * source[v - r + R - 1];
  }
  for (; t < last; ++t)
    for (int r = 0; r < R; ++r) sum[r] += g[t] * x[t - lag - r];
}

}  // namespace causeway::cpu

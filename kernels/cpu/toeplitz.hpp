#pragma once

#include <algorithm>
#include <cstdint>

/// Products with a Toeplitz factor, (H)_{ij} = h[i-j], for a vector of channels: R rows at a time in registers, the
/// factor never written out, and no entry outside the filter touched (a zero there would turn another token's infinity
/// into NaN).
namespace causeway::cpu {

/// sum[r] += Σ_l taps[l] · x[Direction·(r-l)] over the lags l of [0, length) that reach back no further than
/// x[-Direction·before]: row r has before + r + 1 of them. Direction +1 looks back in time, -1 forward: H and Hᵀ.
template <int Direction, int R, class V>
[[gnu::always_inline]] inline void multiply_toeplitz(const V* taps, std::int64_t length, const V* x,
                                                     std::int64_t before, V (&sum)[R]) {
  // Lags of all rows. Four at a time, so that an element that was loaded meets several of them.
  const std::int64_t all = std::min(length, before + 1);
  constexpr int together = 4;
  std::int64_t lag = 0;
  for (; lag + together <= all; lag += together) {
    const V *const h = taps + lag, *const s = x - Direction * lag;
    V source[R + together - 1];
    for (int i = 0; i < R + together - 1; ++i) source[i] = s[Direction * (i - together + 1)];
    for (int l = 0; l < together; ++l)
      for (int r = 0; r < R; ++r) sum[r] += h[l] * source[r - l + together - 1];
  }
  for (; lag < all; ++lag)
    for (int r = 0; r < R; ++r) sum[r] += taps[lag] * x[Direction * (r - lag)];
      // And those of later rows alone.
#pragma GCC unroll 8
  for (int later = 1; later < R; ++later)
    if (const std::int64_t l = before + later; l < length)
      for (int r = later; r < R; ++r) sum[r] += taps[l] * x[Direction * (r - l)];
}

/// sum[r] += Σ g[t] · x[t-lag-r] over tokens t of [first, last) with t-lag-r >= start.
template <int R, class V>
[[gnu::always_inline]] inline void correlate(const V* g, const V* x, std::int64_t lag, std::int64_t first,
                                             std::int64_t last, std::int64_t start, V (&sum)[R]) {
  std::int64_t t = std::max(first, start + lag);
  for (const std::int64_t stop = std::min(last, start + lag + R - 1); t < stop; ++t)
    for (int r = 0; r < R; ++r)
      if (t - lag - r >= start) sum[r] += g[t] * x[t - lag - r];
  constexpr int together = 4;
  for (; t + together <= last; t += together) {
    const V* const s = x + t - lag;
    V source[R + together - 1];
    for (int i = 0; i < R + together - 1; ++i) source[i] = s[i - R + 1];
    for (int v = 0; v < together; ++v)
      for (int r = 0; r < R; ++r) sum[r] += g[t + v] * source[v - r + R - 1];
  }
  for (; t < last; ++t)
    for (int r = 0; r < R; ++r) sum[r] += g[t] * x[t - lag - r];
}

}  // namespace causeway::cpu

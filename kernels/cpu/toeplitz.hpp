#pragma once

#include <algorithm>
#include <cstdint>

/// Products with a Toeplitz factor, (H)_{ij} = h[i-j], for a vector of channels: R rows at a time in registers, the factor never written out, and
/// no entry outside the filter touched (a zero there would turn another token's infinity into NaN).
namespace causeway::cpu {

/// sum[r] += taps[r-u] · x[Direction·u] for the sources u of [lo, hi) and the rows r with 0 <= r-u < length. Direction +1 looks back in time, -1
/// forward: H and Hᵀ.
template <int Direction, int R, class V>
[[gnu::always_inline]] inline void multiply_toeplitz(const V* taps, std::int64_t length, const V* x, std::int64_t lo, std::int64_t hi,
                                                     V (&sum)[R]) {
  lo = std::max(lo, 1 - length);
  hi = std::min<std::int64_t>(hi, R);
  if (length < R) {
    for (std::int64_t u = lo; u < hi; ++u)
      for (int r = 0; r < R; ++r)
        if (u <= r && r - u < length) sum[r] += taps[r - u] * x[Direction * u];
    return;
  }
  // Far end: rows too near to be out of the filter's reach.
#pragma GCC unroll 8
  for (int e = R - 1; e >= 1; --e)
    if (const std::int64_t u = R - length - e; u >= lo && u < hi)
      for (int r = 0; r < R - e; ++r) sum[r] += taps[r - u] * x[Direction * u];
  // All rows. Four sources at a time, so that a tap that was loaded meets several of them.
  std::int64_t u = std::max(lo, R - length);
  const std::int64_t stop = std::min<std::int64_t>(hi, 1);
  constexpr int together = 4;
  for (; u + together <= stop; u += together) {
    const V *const h = taps - u, *const s = x + Direction * u;
    V tap[R + together - 1];
    for (int i = 0; i < R + together - 1; ++i) tap[i] = h[i - together + 1];
    for (int v = 0; v < together; ++v)
      for (int r = 0; r < R; ++r) sum[r] += tap[r - v + together - 1] * s[Direction * v];
  }
  for (; u < stop; ++u)
    for (int r = 0; r < R; ++r) sum[r] += taps[r - u] * x[Direction * u];
  // Near end: rows that come after the source.
#pragma GCC unroll 8
  for (int near = 1; near < R; ++near)
    if (near >= lo && near < hi)
      for (int r = near; r < R; ++r) sum[r] += taps[r - near] * x[Direction * near];
}

/// sum[r] += Σ g[t] · x[t-lag-r] over tokens t of [first, last) with t-lag-r >= start.
template <int R, class V>
[[gnu::always_inline]] inline void correlate(const V* g, const V* x, std::int64_t lag, std::int64_t first, std::int64_t last, std::int64_t start,
                                             V (&sum)[R]) {
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

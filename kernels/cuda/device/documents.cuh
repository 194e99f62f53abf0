#pragma once

#include <cstdint>

#include "kernels/core/segments.hpp"

/// Where documents begin and end, as device code finds it: cu_seqlens lies in device memory, so no launch depends on
/// it.
namespace causeway::cuda {

/// The first index whose entry of the rising `entries` lies beyond t; `count` where none does. A warp calls it
/// together: 32 probes a step, so that 32,768 documents take three dependent loads.
__device__ inline std::int64_t warp_upper_bound(const std::int64_t* entries, std::int64_t count, std::int64_t t,
                                                int lane) {
  std::int64_t low = 0, high = count;
  while (low < high) {
    const std::int64_t step = (high - low + 31) / 32, probe = low + (lane + 1) * step - 1;
    const unsigned beyond = __ballot_sync(~0u, probe >= high || entries[probe] > t);
    if (beyond == 0) return high;
    const std::int64_t section = __ffs(static_cast<int>(beyond)) - 1, last = low + (section + 1) * step - 1;
    low += section * step;
    high = last < high ? last : high;
  }
  return low;
}

/// The same by halving, for a thread alone: where many threads look for many tokens at once.
__device__ inline std::int64_t upper_bound(const std::int64_t* entries, std::int64_t count, std::int64_t t) {
  std::int64_t low = 0, high = count;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (entries[middle] > t)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/// The document [start, end) of a token of the run. A warp calls it together.
struct DocumentBounds {
  std::int64_t start, end;

  __device__ DocumentBounds(const SegmentsView& segments, std::int64_t t, int lane) {
    const std::int64_t next = warp_upper_bound(segments.cu_seqlens, segments.count + 1, t, lane);
    start = segments.cu_seqlens[next - 1];
    end = segments.cu_seqlens[next];
  }
};

/// Which of the 64 tokens from `begin` on are a document's first: bit k for token begin + k.
struct DocumentStarts {
  std::uint64_t bits;
  std::int64_t begin, before;  ///< `before`: the last start left of begin; begin itself where there is none

  /// A warp calls it together.
  __device__ DocumentStarts(const SegmentsView& segments, std::int64_t begin_, int lane) : begin(begin_) {
    const std::int64_t* const entries = segments.cu_seqlens;
    const std::int64_t first = warp_upper_bound(entries, segments.count + 1, begin - 1, lane);
    before = first > 0 ? entries[first - 1] : begin;
    unsigned low = 0, high = 0;
    for (int half = 0; half < 64; half += 32) {
      const std::int64_t at = first + half + lane;
      const std::int64_t offset = at < segments.count ? entries[at] - begin : 64;
      if (offset < 32)
        low |= 1u << offset;
      else if (offset < 64)
        high |= 1u << (offset - 32);
    }
    bits = std::uint64_t{__reduce_or_sync(~0u, high)} << 32 | __reduce_or_sync(~0u, low);
  }

  __device__ bool is_start(int k) const { return (bits >> k) & 1; }
  /// The start of the document that token begin + k belongs to.
  __device__ std::int64_t start_of(int k) const {
    const std::uint64_t upto = bits & ((std::uint64_t{2} << k) - 1);
    return upto == 0 ? before : begin + 63 - __clzll(static_cast<long long>(upto));
  }
  /// Tokens from begin + k to the next start; 64 where none is in sight.
  __device__ int distance_to_next(int k) const {
    const int distance = __ffsll(static_cast<long long>(bits >> k >> 1));
    return distance == 0 ? 64 : distance;
  }
};

}  // namespace causeway::cuda

#pragma once

#include <cstdint>

#include "kernels/core/segments.hpp"

/// How device code finds where documents begin and end. cu_seqlens is in device memory, so no launch depends on it: a
/// pack of 8,192 documents needs as many launches as one with a single document.
namespace causeway::cuda {

/// std::upper_bound over the ascending `entries`: the first index whose entry is greater than t; `count` if no entry
/// is. A warp calls it together and probes 32 entries per step: 32,768 documents take three dependent loads.
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

/// The same for a single thread, by bisection; for many threads that look for different tokens.
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

/// The first and the end token, [start, end), of the document that contains token t of the run. Both may be outside of
/// the run. A warp constructs it together.
struct DocumentBounds {
  std::int64_t start, end;

  __device__ DocumentBounds(const SegmentsView& segments, std::int64_t t, int lane) {
    const std::int64_t next = warp_upper_bound(segments.cu_seqlens, segments.count + 1, t, lane);
    start = segments.cu_seqlens[next - 1];
    end = segments.cu_seqlens[next];
  }
};

/// Bit k says whether token begin + k is the first of its document, for 64 tokens. `first` is the index of the first
/// entry of cu_seqlens that is at least `begin`. Each lane looks at two entries; the warp combines their bits, so that
/// all lanes get the same. A warp calls it together.
__device__ inline std::uint64_t document_start_bits(const SegmentsView& segments, std::int64_t first,
                                                    std::int64_t begin, int lane) {
  unsigned low = 0, high = 0;
  for (int half = 0; half < 64; half += 32) {
    const std::int64_t at = first + half + lane;
    const std::int64_t offset = at < segments.count ? segments.cu_seqlens[at] - begin : 64;
    if (offset < 32)
      low |= 1u << offset;
    else if (offset < 64)
      high |= 1u << (offset - 32);
  }
  return std::uint64_t{__reduce_or_sync(~0u, high)} << 32 | __reduce_or_sync(~0u, low);
}

/// Which of the 64 tokens begin … begin + 63 are the first token of a document. All lanes of a warp hold the same.
struct DocumentStarts {
  std::uint64_t bits;   ///< bit k: token begin + k is the first of its document
  std::int64_t begin;   ///< token of bit 0
  std::int64_t before;  ///< the last start left of begin; begin if there is none
  std::int64_t first;   ///< the index in cu_seqlens of the first start that is not left of begin

  /// A warp calls it together.
  __device__ DocumentStarts(const SegmentsView& segments, std::int64_t begin_, int lane) : begin(begin_) {
    first = warp_upper_bound(segments.cu_seqlens, segments.count + 1, begin - 1, lane);
    before = first > 0 ? segments.cu_seqlens[first - 1] : begin;
    bits = document_start_bits(segments, first, begin, lane);
  }

  /// Whether token begin + k is the first of its document.
  __device__ bool is_start(int k) const { return (bits >> k) & 1; }
  /// The start of the document that token begin + k belongs to.
  __device__ std::int64_t start_of(int k) const {
    const std::uint64_t upto = bits & ((std::uint64_t{2} << k) - 1);
    return upto == 0 ? before : begin + 63 - __clzll(static_cast<long long>(upto));
  }
  /// The number of tokens from begin + k to the next start; 64 if there is no start among the 64 tokens after it.
  __device__ int distance_to_next(int k) const {
    const int distance = __ffsll(static_cast<long long>(bits >> k >> 1));
    return distance == 0 ? 64 : distance;
  }
};

}  // namespace causeway::cuda

#pragma once

#include "kernels/cuda/device/documents.cuh"

namespace causeway::cuda {

/// Where documents begin, tile after tile. Bit b of a tile's word: a document begins with token b - 16 of the tile.
/// The end of the last document counts as a beginning. The entries increase strictly (SegmentsView), so the 32 tokens
/// of a word have at most 32 of them. A warp calls all functions together.
class StartReader {
 public:
  __device__ explicit StartReader(const SegmentsView& documents) : documents_(&documents) {}
  /// Goes to the tile that begins with `token`.
  __device__ void seek(std::int64_t token, int lane) {
    index_ = warp_upper_bound(documents_->cu_seqlens, documents_->count + 1, token - 17, lane);
    next_ = entry(index_);
  }
  /// The word of the tile that begins with `token`. The next one begins `tokens` later.
  __device__ unsigned word(std::int64_t token, int tokens, int lane) {
    const std::int64_t first = token - 16;
    if (next_ - first >= 32) return 0;
    const std::int64_t offset = entry(index_ + lane) - first;
    index_ += __popc(__ballot_sync(~0u, offset < tokens));
    next_ = entry(index_);
    return __reduce_or_sync(~0u, offset < 32 ? 1u << offset : 0u);
  }

 private:
  __device__ std::int64_t entry(std::int64_t i) const {
    return i <= documents_->count ? documents_->cu_seqlens[i] : std::int64_t{1} << 62;
  }
  const SegmentsView* documents_;
  std::int64_t index_ = 0, next_ = 0;  ///< the first entry that the next word may have, and its token
};

}  // namespace causeway::cuda

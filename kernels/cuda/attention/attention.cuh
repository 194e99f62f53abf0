#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention.hpp"
#include "kernels/cuda/attention/attention_tile.cuh"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/elementwise.cuh"

/// What attention's kernels share: who sees whom, and how tiles of heads come into shared memory.
namespace causeway::cuda {

/// Who sees whom, from either side. Both ends of what a row sees rise with the row.
class CausalMask {
 public:
  struct Range {
    int begin, end;
  };

  explicit CausalMask(const AttentionInputs& in)
      : segments_(in.segments), keys_(in.k.rows()), key_offset_(in.key_offset) {
    constexpr std::int64_t most = std::numeric_limits<int>::max() - 1024;
    ensure(in.segments.tokens <= most && keys_ <= most, "attention of {} queries to {} keys, expected at most {}",
           in.segments.tokens, keys_, most);
  }

  __device__ std::int64_t queries() const { return segments_.tokens; }
  __device__ std::int64_t keys() const { return keys_; }

  /// The keys that query t sees.
  __device__ Range keys_of(std::int64_t t) const {
    const std::int64_t start = segments_.cu_seqlens[upper_bound(segments_.cu_seqlens, segments_.count + 1, t) - 1];
    return within(start - key_offset_, t + 1 - key_offset_, keys_);
  }
  /// The queries that see key j.
  __device__ Range queries_of(std::int64_t j) const {
    const std::int64_t place = j + key_offset_, next = upper_bound(segments_.cu_seqlens, segments_.count + 1, place);
    const std::int64_t end = next == 0 ? place : next > segments_.count ? segments_.tokens : segments_.cu_seqlens[next];
    return within(place, end, segments_.tokens);
  }

 private:
  __device__ static Range within(std::int64_t begin, std::int64_t end, std::int64_t count) {
    begin = begin < 0 ? 0 : begin < count ? begin : count;
    end = end < begin ? begin : end < count ? end : count;
    return {static_cast<int>(begin), static_cast<int>(end)};
  }

  SegmentsView segments_;
  std::int64_t keys_, key_offset_;
};

/// One head of [tokens, H, E] in bf16, as tiles are loaded from it.
struct Heads {
  const bf16* data;
  std::int64_t stride;
  int rows, width;
  bool whole;  ///< may be read 16 bytes at a time

  explicit Heads(TensorView x)
      : data(static_cast<const bf16*>(x.data)),
        stride(x.row_stride),
        rows(static_cast<int>(x.rows())),
        width(static_cast<int>(x.shape[2])),
        whole(width % 8 == 0 && rows_start_aligned({x}, 8)) {}

  __device__ const bf16* at(int row, int head) const { return data + row * stride + std::int64_t{head} * width; }
};

/// Copies `rows` rows from `first` on to a tile, zeros beyond the last row and beyond the head's width. `exact`: that
/// width is E, and chunks are whole.
template <int E, bool exact, int rows, int threads>
__device__ void load(Tile<E> to, const Heads& from, int head, int first) {
  constexpr int chunks = Tile<E>::chunks;
  static_assert(threads % chunks == 0 && rows * chunks % threads == 0);
  const int row = static_cast<int>(threadIdx.x) / chunks, chunk = static_cast<int>(threadIdx.x) % chunks;
#pragma unroll
  for (int down = 0; down < rows; down += threads / chunks) {
    const int source = first + row + down;
    const bf16* const data = from.at(source < from.rows ? source : 0, head) + chunk * 8;
    const std::uint32_t place = to.at(row + down, chunk);
    if (exact) {
      copy_16_bytes_async(place, data, source < from.rows);
    } else if (from.whole) {
      const bool inside = source < from.rows && chunk * 8 < from.width;
      copy_16_bytes_async(place, inside ? data : from.data, inside);
    } else {
      std::uint32_t x[4] = {};
      for (int i = 0; i < 8; ++i)
        if (source < from.rows && chunk * 8 + i < from.width) x[i / 2] |= std::uint32_t{data[i].bits} << (i % 2 * 16);
      asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(place), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                   : "memory");
    }
  }
}

/// A thread's share of 16 rows by 8·W columns, the first of which is `column`: adds every NaN and infinity of the rows
/// of `from` in `seen` and in [first, last). A product with a cleaned tile leaves them out for everyone; this gives
/// them to those who see them.
template <int W>
__device__ void add_non_finite(float (&y)[W][4], const Heads& from, int head, const CausalMask::Range (&seen)[2],
                               int first, int last, int column, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
    for (int row = max(first, seen[half].begin); row < min(last, seen[half].end); ++row) {
      const bf16* const data = from.at(row, head);
#pragma unroll
      for (int n = 0; n < W; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int e = column + 8 * n + lane % 4 * 2 + i;
          const float x = e < from.width ? static_cast<float>(data[e]) : 0.0f;
          if (!isfinite(x)) y[n][2 * half + i] += x;
        }
    }
}

/// A thread's element i of a result's 16×8 block: which of its two rows, and which of the block's columns.
__device__ constexpr int half_of(int i) { return i / 2; }
__device__ constexpr int column_of(int i, int lane) { return lane % 4 * 2 + i % 2; }

/// The kernel may use so many bytes of shared memory.
template <class Function>
void allow_shared(Function* kernel, int bytes) {
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
}

/// Kernels of any type and of heads of up to 1024, a warp for up to four rows, that multiply nothing but what is seen.
void plain_attention_forward(const Stream& stream, const AttentionForward& args);
void plain_attention_backward(const Stream& stream, const AttentionBackward& args);

}  // namespace causeway::cuda

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention.hpp"
#include "kernels/cuda/attention/attention_tile.cuh"
#include "kernels/cuda/device/check.cuh"
#include "kernels/cuda/device/documents.cuh"
#include "kernels/cuda/device/elementwise.cuh"

/// Shared by the kernels of attention: the mask, and the loads of tiles of a head to shared memory.
///
/// "A query sees a key" means that the mask lets the query attend to the key: both are in one document, and the key is
/// not after the query. The keys that one query sees follow each other, and so do the queries that see one key.
namespace causeway::cuda {

/// Whether the build has cuDNN's attention and the kernels for short documents beside it (the option CAUSEWAY_CUDNN).
/// Without them, tiles compute all documents.
inline constexpr bool has_fused_attention = CAUSEWAY_CUDNN;

/// The causal mask within documents, from either side. Both ends of a range grow with the row.
class CausalMask {
 public:
  struct Range {
    int begin, end;
  };

  /// `computed`: null, or for each document of the run whether other kernels compute it. Then no query of it sees a key
  /// here.
  explicit CausalMask(const AttentionInputs& in, const std::uint8_t* computed = nullptr)
      : segments_(in.segments), keys_(in.k.rows()), key_offset_(in.key_offset), computed_(computed) {
    constexpr std::int64_t most = std::numeric_limits<int>::max() - 1024;
    ensure(in.segments.tokens <= most && keys_ <= most,
           "attention of {} queries to {} keys, expected at most {} of each", in.segments.tokens, keys_, most);
  }

  __device__ std::int64_t queries() const { return segments_.tokens; }
  __device__ std::int64_t keys() const { return keys_; }

  /// Whether other kernels compute some documents.
  __device__ bool leaves_out_documents() const { return has_fused_attention && computed_ != nullptr; }
  /// Whether they compute query t.
  __device__ bool leaves_out(std::int64_t t) const { return is_computed(document_of(t)); }

  /// The keys that query t sees.
  __device__ Range keys_of(std::int64_t t) const {
    const std::int64_t document = document_of(t), start = segments_.cu_seqlens[document];
    return within(start - key_offset_, (is_computed(document) ? start : t + 1) - key_offset_, keys_);
  }
  /// The queries that see key j.
  __device__ Range queries_of(std::int64_t j) const {
    const std::int64_t t = j + key_offset_, next = upper_bound(segments_.cu_seqlens, segments_.count + 1, t);
    const std::int64_t end = next == 0 || (next <= segments_.count && is_computed(next - 1)) ? t
                             : next > segments_.count                                        ? segments_.tokens
                                                      : segments_.cu_seqlens[next];
    return within(t, end, segments_.tokens);
  }

 private:
  __device__ std::int64_t document_of(std::int64_t t) const {
    return upper_bound(segments_.cu_seqlens, segments_.count + 1, t) - 1;
  }
  __device__ bool is_computed(std::int64_t document) const {
    return leaves_out_documents() && computed_[document] != 0;
  }
  /// [begin, end) limited to [0, count).
  __device__ static Range within(std::int64_t begin, std::int64_t end, std::int64_t count) {
    begin = begin < 0 ? 0 : begin < count ? begin : count;
    end = end < begin ? begin : end < count ? end : count;
    return {static_cast<int>(begin), static_cast<int>(end)};
  }

  SegmentsView segments_;
  std::int64_t keys_, key_offset_;
  const std::uint8_t* computed_;
};

/// A tensor [tokens, H, width] in bf16, from which tiles of one head are loaded.
struct Heads {
  const bf16* data;
  std::int64_t stride;
  int rows, width;  ///< tokens; elements of a head
  bool aligned;     ///< heads consist of chunks of 16 bytes, aligned to 16 bytes

  explicit Heads(TensorView x)
      : data(static_cast<const bf16*>(x.data)),
        stride(x.row_stride),
        rows(static_cast<int>(x.rows())),
        width(static_cast<int>(x.shape[2])),
        aligned(width % 8 == 0 && rows_start_aligned({x}, 8)) {}

  __device__ const bf16* row_of(int row, int head) const { return data + row * stride + std::int64_t{head} * width; }
};

/// Starts to load the rows first … first + rows - 1 of a head to a tile, asynchronously if the heads are aligned.
/// Writes zeros beyond the last row and beyond the head's width. `exact`: the width is E and the heads are aligned. All
/// threads of the block call it together; neighbouring threads copy neighbouring chunks of a row.
template <int E, bool exact, int rows, int threads>
__device__ void load_tile(HeadTile<E> to, const Heads& from, int head, int first) {
  constexpr int chunks = HeadTile<E>::chunks;
  static_assert(threads % chunks == 0 && rows * chunks % threads == 0);
  const int row = static_cast<int>(threadIdx.x) / chunks, chunk = static_cast<int>(threadIdx.x) % chunks;
#pragma unroll
  for (int down = 0; down < rows; down += threads / chunks) {
    const int source = first + row + down;
    const bf16* const data = from.row_of(source < from.rows ? source : 0, head) + chunk * 8;
    const std::uint32_t address = to.address_of(row + down, chunk);
    if (exact) {
      copy_16_bytes_async(address, data, source < from.rows);
    } else if (from.aligned) {
      const bool inside = source < from.rows && chunk * 8 < from.width;
      copy_16_bytes_async(address, inside ? data : from.data, inside);
    } else {
      std::uint32_t x[4] = {};
      for (int i = 0; i < 8; ++i)
        if (source < from.rows && chunk * 8 + i < from.width) x[i / 2] |= std::uint32_t{data[i].bits} << (i % 2 * 16);
      asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                   : "memory");
    }
  }
}

/// Adds to y, a warp's 16 rows by 8·W columns from `column` on, every NaN and infinity in the rows [first, last) of
/// `from` that the row of y sees. The product with a tile after zero_non_finite leaves them out for all rows; this adds
/// them for the rows that see them. `seen`: what the two rows of this thread see.
template <int W>
__device__ void add_non_finite(float (&y)[W][4], const Heads& from, int head, const CausalMask::Range (&seen)[2],
                               int first, int last, int column, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half)
    for (int row = max(first, seen[half].begin); row < min(last, seen[half].end); ++row) {
      const bf16* const data = from.row_of(row, head);
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

/// Element i of the four that a thread holds of a 16×8 block of C: which of the thread's two rows it is in (row g or
/// row g + 8), and in which column of the block.
__device__ constexpr int row_half_of(int i) { return i / 2; }
__device__ constexpr int column_of(int i, int lane) { return lane % 4 * 2 + i % 2; }

template <int N>
__device__ void set_zero(float (&x)[1][N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) x[0][n][i] = 0;
}

/// Permits a kernel to use `bytes` bytes of dynamic shared memory.
template <class Function>
void allow_shared(Function* kernel, int bytes) {
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
}

/// Attention of bf16 heads of up to 256 elements on tensor cores. `computed`: null, or in device memory for each
/// document of the run whether other kernels compute it. Backward adds to gradients in float32.
void tile_attention_forward(const Stream& stream, const AttentionForward& args, const std::uint8_t* computed);
void tile_attention_backward(const Stream& stream, const AttentionBackward& args, const std::uint8_t* computed);

/// Attention without tensor cores, for all types and heads of up to 1024 elements. A warp computes up to four rows and
/// multiplies only the pairs that the mask allows.
void simt_attention_forward(const Stream& stream, const AttentionForward& args);
void simt_attention_backward(const Stream& stream, const AttentionBackward& args);

}  // namespace causeway::cuda

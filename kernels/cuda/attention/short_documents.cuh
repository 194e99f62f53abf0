#pragma once

#include <cmath>
#include <vector>

#include "kernels/cuda/attention/attention.cuh"
#include "kernels/cuda/attention/attention_short.cuh"
#include "kernels/cuda/attention/fused_attention.cuh"
#include "kernels/cuda/attention/fused_calls.hpp"
#include "kernels/cuda/device/functions.cuh"

/// Shared by the kernels of short documents: a block of threads computes a head of consecutive whole documents.
namespace causeway::cuda::short_documents {

inline constexpr int E = 128, rows = static_cast<int>(rows_of_short_block), warps = rows / 16, threads = 32 * warps;
inline constexpr int tile_bytes = HeadTile<E>::bytes(rows);
using Tile = HeadTile<E>;
using Fragments = TileFragments<E>;

/// The documents of a block, and which of its rows belong to which document.
struct Documents {
  int2 bounds[rows];  ///< of the row's document, in rows of the block; the row itself, twice, if it has none

  /// All threads of the block call it together; it ends with a barrier.
  __device__ void find(const ShortBlock& block, const SegmentsView& segments) {
    const int at = static_cast<int>(threadIdx.x);
    if (at < rows) bounds[at] = {at, at};
    __syncthreads();
    if (at < block.documents) {
      const std::int64_t* const cu_seqlens = segments.cu_seqlens + block.document + at;
      const int start = static_cast<int>(max(cu_seqlens[0], std::int64_t{0}) - block.row),
                end = static_cast<int>(min(cu_seqlens[1], segments.tokens) - block.row);
      for (int row = start; row < end; ++row) bounds[row] = {start, end};
    }
    __syncthreads();
  }
};

/// Whether the query sees the key: both are rows of the block, and `of` are the bounds of the document of one of them.
__device__ inline bool sees(int query, int key, int2 of) { return key >= of.x && key <= query && query < of.y; }

/// The block's rows of a tensor: a tile has zeros below them.
__device__ inline Heads only(Heads x, const ShortBlock& block) {
  x.rows = block.row + block.rows;
  return x;
}

/// Whether 16 rows of the tile contain a NaN or an infinity; each lane looks at some of them.
__device__ inline bool any_non_finite_in(Tile tile, int first, int lane) {
  bool found = false;
#pragma unroll
  for (int i = lane; i < 16 * Tile::chunks; i += 32) {
    std::uint32_t x[4];
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(tile.address + Tile::bytes(first) + i * 16)
                 : "memory");
#pragma unroll
    for (int w = 0; w < 4; ++w) found = found || (((x[w] & 0x7f807f80u) + 0x00800080u) & 0x80008000u) != 0;
  }
  return found;
}

/// The scores of 16 rows of `left` and 16 rows of `right`.
__device__ inline void scores(float (&s)[1][2][4], Tile left, int left_row, Tile right, int right_row, int lane) {
  set_zero(s);
  multiply_transposed(s, Fragments::left_operand(left, left_row, lane),
                      Fragments::right_operand(right, right_row, lane));
}

/// Zero where an element of the pair is NaN or infinite.
__device__ inline std::uint32_t finite(std::uint32_t pair) {
  const std::uint32_t carries = ((pair & 0x7f807f80u) + 0x00800080u) & 0x80008000u;
  return pair & (((carries & 0x8000u) ? 0u : 0xffffu) | ((carries & 0x80000000u) ? 0u : 0xffff0000u));
}

/// y += s·b over 16 rows of b, like multiply(). If b may contain NaN or infinity, these count as zero: 0·NaN is NaN,
/// also where the mask does not allow the pair.
__device__ inline void multiply_rows(float (&y)[1][E / 8][4], const float (&s)[1][2][4], const Fragments& b,
                                     bool non_finite) {
  if (!non_finite) return multiply(y, s, b);
  const std::uint32_t left[4] = {pack_bf16(s[0][0][0], s[0][0][1]), pack_bf16(s[0][0][2], s[0][0][3]),
                                 pack_bf16(s[0][1][0], s[0][1][1]), pack_bf16(s[0][1][2], s[0][1][3])};
#pragma unroll
  for (int e = 0; e < E / 16; ++e) {
    std::uint32_t right[4];
    ldmatrix_x4<true>(right, b.address_of(0, e));
    mma_16x8x16(y[0][2 * e], left, finite(right[0]), finite(right[1]));
    mma_16x8x16(y[0][2 * e + 1], left, finite(right[2]), finite(right[3]));
  }
}

inline bool fits(const AttentionInputs& in) {
  return in.q.dtype == DType::bf16 && in.q.shape[2] == E && rows_start_aligned({in.q, in.k, in.v}, 8) &&
         has_own_keys(in);
}

/// The blocks of the short documents, in device memory; absent if there is no short document.
struct UploadedBlocks {
  Tensor memory;
  std::int64_t count = 0;

  UploadedBlocks(const Stream& stream, const SegmentsView& segments, std::vector<std::uint8_t>& computed) {
    const std::vector<ShortBlock> blocks = short_blocks(segments, computed);
    count = std::ssize(blocks);
    if (count == 0) return;
    memory = Tensor(stream, DType::i32, {count * 4});
    stream.upload(memory.view().data, blocks.data(), memory.view().bytes());
  }
  const ShortBlock* data() const { return static_cast<const ShortBlock*>(memory.view().data); }
};
static_assert(sizeof(ShortBlock) == 4 * sizeof(std::int32_t));
inline float scale_of_scores() { return 1 / std::sqrt(static_cast<float>(E)); }

}  // namespace causeway::cuda::short_documents

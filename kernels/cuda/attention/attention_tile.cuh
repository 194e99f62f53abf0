#pragma once

#include <cstdint>

#include "kernels/cuda/device/tensor_core.cuh"

/// Matrix products of a warp on tensor cores, with bf16 tiles [rows, E] of a head in shared memory. The registers of A,
/// B and C are laid out over the lanes as device/tensor_core.cuh says.
namespace causeway::cuda {

/// Rows of E bf16 in shared memory, E a multiple of 64; the tile must start at a multiple of 128 bytes. A row consists
/// of chunks of 16 bytes, 8 elements each. Row r has its chunk c at position c ^ (r mod 8) (a swizzle), so that the
/// same chunk of eight neighbouring rows is in different banks.
template <int E>
struct HeadTile {
  static_assert(E % 64 == 0);
  static constexpr int chunks = E / 8;  ///< chunks of a row
  std::uint32_t address;                ///< within shared memory

  static constexpr int bytes(int rows) { return rows * E * 2; }
  /// The tile that begins after `rows` rows.
  __device__ HeadTile skip_rows(int rows) const { return {address + bytes(rows)}; }
  __device__ std::uint32_t address_of(int row, int chunk) const {
    return address + bytes(row) + ((chunk ^ (row & 7)) << 4);
  }
};

/// The addresses that a lane passes to ldmatrix_x4 to load 16×16 fragments of a tile. `row`, where the fragments begin,
/// is a multiple of 8.
template <int E>
class TileFragments {
 public:
  /// Fragments of A in A B (ldmatrix_x4<false>), or of B itself, [tile rows, columns] (ldmatrix_x4<true>).
  __device__ static TileFragments left_operand(HeadTile<E> tile, int row, int lane) {
    return {tile, row + (lane & 15), lane >> 4, lane};
  }
  /// Fragments of Bᵀ in A Bᵀ (ldmatrix_x4<false>): a row of the tile is a column of the right operand.
  __device__ static TileFragments right_operand(HeadTile<E> tile, int row, int lane) {
    return {tile, row + (lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1, lane};
  }

  /// The fragment at column 16·k, `rows` rows (a multiple of 8) further down.
  __device__ std::uint32_t address_of(int rows, int k) const {
    return address_ + HeadTile<E>::bytes(rows) + (((k & 3) << 5) ^ swizzle_) + ((k >> 2) << 7);
  }
  /// The same fragments, beginning at column `columns`, a multiple of 64.
  __device__ TileFragments from_column(int columns) const { return {address_ + columns * 2, swizzle_}; }

 private:
  __device__ TileFragments(HeadTile<E> tile, int row, int chunk, int lane)
      : TileFragments(tile.address + HeadTile<E>::bytes(row), (chunk ^ (lane & 7)) << 4) {}
  __device__ TileFragments(std::uint32_t address, std::uint32_t swizzle) : address_(address), swizzle_(swizzle) {}

  std::uint32_t address_, swizzle_;
};

/// s [16·M, 8·N] += A Bᵀ, summed over all E columns of both tiles.
template <int E, int M, int N>
__device__ void multiply_transposed(float (&s)[M][N][4], const TileFragments<E>& a, const TileFragments<E>& b) {
#pragma unroll
  for (int k = 0; k < E / 16; ++k) {
    std::uint32_t left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) ldmatrix_x4<false>(left[m], a.address_of(16 * m, k));
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      std::uint32_t right[4];
      ldmatrix_x4<false>(right, b.address_of(8 * n, k));
#pragma unroll
      for (int m = 0; m < M; ++m) {
        mma_16x8x16(s[m][n], left[m], right[0], right[1]);
        mma_16x8x16(s[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/// The same with the 16 rows of A in registers.
template <int E, int N>
__device__ void multiply_transposed(float (&s)[1][N][4], const std::uint32_t (&a)[E / 16][4],
                                    const TileFragments<E>& b) {
#pragma unroll
  for (int k = 0; k < E / 16; ++k)
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      std::uint32_t right[4];
      ldmatrix_x4<false>(right, b.address_of(8 * n, k));
      mma_16x8x16(s[0][n], a[k], right[0], right[1]);
      mma_16x8x16(s[0][n + 1], a[k], right[2], right[3]);
    }
}

/// y [16·M, 8·W] += S B, where S [16·M, 8·N] is rounded to bf16 and B has 8·N rows; the first 8·W columns of B.
template <int E, int M, int N, int W>
__device__ void multiply(float (&y)[M][W][4], const float (&s)[M][N][4], const TileFragments<E>& b) {
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    std::uint32_t left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) {
      left[m][0] = pack_bf16(s[m][n][0], s[m][n][1]);
      left[m][1] = pack_bf16(s[m][n][2], s[m][n][3]);
      left[m][2] = pack_bf16(s[m][n + 1][0], s[m][n + 1][1]);
      left[m][3] = pack_bf16(s[m][n + 1][2], s[m][n + 1][3]);
    }
#pragma unroll
    for (int e = 0; e < W / 2; ++e) {
      std::uint32_t right[4];
      ldmatrix_x4<true>(right, b.address_of(8 * n, e));
#pragma unroll
      for (int m = 0; m < M; ++m) {
        mma_16x8x16(y[m][2 * e], left[m], right[0], right[1]);
        mma_16x8x16(y[m][2 * e + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/// Whether the scores contain a NaN or an infinity. They do if a row of either factor contained one.
template <int N>
__device__ bool any_non_finite(const float (&s)[1][N][4]) {
  bool found = false;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) found = found || !isfinite(s[0][n][i]);
  return found;
}

/// Replaces every NaN and infinity in the tile's rows by zero. Returns whether this thread found one. All threads of
/// the block call it together.
template <int E, int rows, int threads>
__device__ bool zero_non_finite(HeadTile<E> tile) {
  bool found = false;
  for (int i = static_cast<int>(threadIdx.x); i < rows * HeadTile<E>::chunks; i += threads) {
    std::uint32_t x[4];
    const std::uint32_t chunk = tile.address + i * 16;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(chunk)
                 : "memory");
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      // An exponent of ones only, as NaN and infinity have, carries into the sign bit.
      const std::uint32_t carries = ((x[w] & 0x7f807f80u) + 0x00800080u) & 0x80008000u;
      if (carries == 0) continue;
      found = true;
      const std::uint32_t kept = ((carries & 0x8000u) ? 0u : 0xffffu) | ((carries & 0x80000000u) ? 0u : 0xffff0000u);
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(chunk + 4 * w), "r"(x[w] & kept) : "memory");
    }
  }
  return found;
}

}  // namespace causeway::cuda

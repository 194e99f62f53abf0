#pragma once

#include <cstdint>

#include "kernels/cuda/device/tensor_core.cuh"

/// Products of matrices of heads: [rows, E] tiles of bf16 in shared memory times tiles or registers.
namespace causeway::cuda {

/// Rows of E bf16 in shared memory, E a multiple of 64. Sixteen-byte chunks change places by their row, so that eight
/// rows of one column lie in different banks.
template <int E>
struct Tile {
  static_assert(E % 64 == 0);
  static constexpr int chunks = E / 8;  ///< of a row
  std::uint32_t address;

  static constexpr int bytes(int rows) { return rows * E * 2; }
  __device__ Tile after(int rows) const { return {address + bytes(rows)}; }
  __device__ std::uint32_t at(int row, int chunk) const { return address + bytes(row) + ((chunk ^ (row & 7)) << 4); }
};

/// Where a lane reads a tile's 16×16 blocks from. `row` is a multiple of 8.
template <int E>
class Blocks {
 public:
  /// As the left operand, or transposed as the right one.
  __device__ static Blocks along(Tile<E> tile, int row, int lane) { return {tile, row + (lane & 15), lane >> 4, lane}; }
  /// As the right operand, a row of the tile being one of its columns.
  __device__ static Blocks across(Tile<E> tile, int row, int lane) {
    return {tile, row + (lane & 7) + ((lane >> 4) << 3), (lane >> 3) & 1, lane};
  }

  /// The block from column 16·k on, `down` rows (a multiple of 8) further down.
  __device__ std::uint32_t at(int down, int k) const {
    return address_ + Tile<E>::bytes(down) + (((k & 3) << 5) ^ place_) + ((k >> 2) << 7);
  }
  /// The same from column `columns` on, a multiple of 64.
  __device__ Blocks right(int columns) const { return {address_ + columns * 2, place_}; }

 private:
  __device__ Blocks(Tile<E> tile, int row, int chunk, int lane)
      : Blocks(tile.address + Tile<E>::bytes(row), (chunk ^ (lane & 7)) << 4) {}
  __device__ Blocks(std::uint32_t address, std::uint32_t place) : address_(address), place_(place) {}

  std::uint32_t address_, place_;
};

/// s[16·M, 8·N] += A·Bᵀ over all of E.
template <int E, int M, int N>
__device__ void multiply_transposed(float (&s)[M][N][4], const Blocks<E>& a, const Blocks<E>& b) {
#pragma unroll
  for (int k = 0; k < E / 16; ++k) {
    std::uint32_t left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) ldmatrix_x4<false>(left[m], a.at(16 * m, k));
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      std::uint32_t right[4];
      ldmatrix_x4<false>(right, b.at(8 * n, k));
#pragma unroll
      for (int m = 0; m < M; ++m) {
        mma_16x8x16(s[m][n], left[m], right[0], right[1]);
        mma_16x8x16(s[m][n + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/// The same with A's 16 rows in registers.
template <int E, int N>
__device__ void multiply_transposed(float (&s)[1][N][4], const std::uint32_t (&a)[E / 16][4], const Blocks<E>& b) {
#pragma unroll
  for (int k = 0; k < E / 16; ++k)
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      std::uint32_t right[4];
      ldmatrix_x4<false>(right, b.at(8 * n, k));
      mma_16x8x16(s[0][n], a[k], right[0], right[1]);
      mma_16x8x16(s[0][n + 1], a[k], right[2], right[3]);
    }
}

/// y[16·M, 8·W] += S·B, S [16·M, 8·N] rounded to bf16, and B's first 8·W columns.
template <int E, int M, int N, int W>
__device__ void multiply(float (&y)[M][W][4], const float (&s)[M][N][4], const Blocks<E>& b) {
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
      ldmatrix_x4<true>(right, b.at(8 * n, e));
#pragma unroll
      for (int m = 0; m < M; ++m) {
        mma_16x8x16(y[m][2 * e], left[m], right[0], right[1]);
        mma_16x8x16(y[m][2 * e + 1], left[m], right[2], right[3]);
      }
    }
  }
}

/// Whether a block of scores holds a NaN or an infinity, as it does where a row of either factor held one.
template <int N>
__device__ bool any_non_finite(const float (&s)[1][N][4]) {
  bool found = false;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) found = found || !isfinite(s[0][n][i]);
  return found;
}

/// Puts zero in the place of every NaN and infinity of the tile's rows; says whether this thread met one.
template <int E, int rows, int threads>
__device__ bool clean(Tile<E> tile) {
  bool found = false;
  for (int i = static_cast<int>(threadIdx.x); i < rows * Tile<E>::chunks; i += threads) {
    std::uint32_t x[4];
    const std::uint32_t at = tile.address + i * 16;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const std::uint32_t beyond = ((x[w] & 0x7f807f80u) + 0x00800080u) & 0x80008000u;  // exponents of nothing but ones
      if (beyond == 0) continue;
      found = true;
      const std::uint32_t kept = ((beyond & 0x8000u) ? 0u : 0xffffu) | ((beyond & 0x80000000u) ? 0u : 0xffff0000u);
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(at + 4 * w), "r"(x[w] & kept) : "memory");
    }
  }
  return found;
}

}  // namespace causeway::cuda

#pragma once

#include "kernels/core/integer.hpp"
#include "kernels/cuda/selective_scan/selective_scan.cuh"

/// The backward pass has the three passes of the forward one: the adjoint's chunk sums, their fold, then each chunk
/// from right to left. The third pass needs h and exp(ΔA) of 8 tokens in registers at a time, so a thread holds 4
/// states of a channel here and L threads share a channel. Each block of 64 tokens is computed in two steps:
///   forward    from the state that the forward pass saved; h before every 8th token is kept in shared memory
///   backward   each group of 8 tokens, from the last to the first: h and exp(ΔA) again, then the adjoint
///
/// Sums over states (for d_u, d_delta, s) and over channels (for d_B, d_C) are taken over lanes by sum_over_lanes, 8
/// tokens at once. Warps, tiles of channels and groups of tiles are added in their order.
namespace causeway::cuda {

inline constexpr int tile_prefetch_rows = 8;  ///< rows that a thread reads before it uses the first of them
inline constexpr int tile_states = 4;         ///< states of a channel that a thread holds
inline constexpr int group_tokens = 8;        ///< tokens whose h a thread holds at a time
inline constexpr int groups_a_block = block_tokens / group_tokens, scan_warps = scan_threads / 32;

/// The gradients as device code writes them; absent tensors are null.
template <class T>
struct ScanGradients {
  using R = Accumulator<T>;
  const T* d_y;
  T *d_u, *d_delta, *d_z;
  std::int64_t d_y_stride, d_u_stride, d_delta_stride, d_z_stride;
  const R* states;  ///< saved by the forward pass: [blocks of tokens][N][channels]
  std::int64_t states_stride;
  R* rows;                   ///< [groups of tiles][tokens][2][N]: d_B and d_C
  R* parameters;             ///< [chunks][N + 2][channels]: d_A, d_D, d_delta_bias
  std::int64_t group_tiles;  ///< tiles of a group
  GroupSums<R> sums;         ///< [3][tokens][channels]: d_delta, d_u, s
};

/// The shared memory of a block of threads: a tile of C channels by 64 tokens, NP states per channel.
template <class R, int L>
struct ScanTile {
  static constexpr int C = scan_threads / L, NP = tile_states * L;
  // Δ, u and d_s of the tile. Tokens that are done hold d_delta, s and d_u there instead.
  R delta[block_tokens][C], u[block_tokens][C], ds[block_tokens][C];
  alignas(16) R B[block_tokens][NP], Cs[block_tokens][NP];
  Quad<R> h[groups_a_block][scan_threads];  // each thread's states before each group of 8 tokens
  alignas(16) R
      from_warps[scan_warps][group_tokens][2][NP];  // each warp's sums over its channels: d_B, d_C of 8 tokens
};

/// Sums 8 values over `Lanes` lanes that are `Stride` apart; `index` is this lane's number among them. Each exchange
/// halves the number of values that a lane keeps, so 7 shuffles do the work of 24. The result is spread over the lanes:
/// this lane has the sums of values [first, first + 8 / Lanes) in v[0 …], where `first` is returned. With more than 8
/// lanes, several lanes have the same sum.
template <int Lanes, int Stride, class R>
__device__ int sum_over_lanes(R (&v)[group_tokens], int index) {
  int first = 0;
#pragma unroll
  for (int bit = Lanes / 2, half = group_tokens / 2; bit > 0; bit /= 2, half /= 2) {
    if (half == 0) {
      v[0] += __shfl_xor_sync(~0u, v[0], bit * Stride);
      continue;
    }
    const bool upper = (index & bit) != 0;
#pragma unroll
    for (int j = 0; j < half; ++j) {
      const R give = upper ? v[j] : v[j + half], keep = upper ? v[j + half] : v[j];
      v[j] = keep + __shfl_xor_sync(~0u, give, bit * Stride);
    }
    if (upper) first += half;
  }
  return first;
}

/// Loads Δ, u and d_s of 64 tokens and the channels of a tile, and B and C of the tokens, to shared memory. Beyond
/// `count` all are zero: the state stays.
template <class T, class S>
__device__ void stage_block(const ScanInputs<T>& in, const ScanGradients<T>& to, std::int64_t from, int count,
                            std::int64_t first_channel, S& shared) {
  using R = Accumulator<T>;
  constexpr int rows = scan_threads / S::C;  // read at a time
  const int c = static_cast<int>(threadIdx.x) % S::C, row = static_cast<int>(threadIdx.x) / S::C;
  const std::int64_t channel = first_channel + c, column = channel < in.channels ? channel : in.channels - 1;
  const R bias = in.bias_of(column);
  for (int base = row; base < block_tokens; base += tile_prefetch_rows * rows) {
    T delta[tile_prefetch_rows], u[tile_prefetch_rows], d_y[tile_prefetch_rows], z[tile_prefetch_rows];
#pragma unroll
    for (int i = 0; i < tile_prefetch_rows; ++i) {
      const std::int64_t t = from + min(base + i * rows, count - 1);
      delta[i] = in.delta[t * in.delta_stride + column];
      u[i] = in.u[t * in.u_stride + column];
      d_y[i] = to.d_y[t * to.d_y_stride + column];
      if (in.z != nullptr) z[i] = in.z[t * in.z_stride + column];
    }
#pragma unroll
    for (int i = 0; i < tile_prefetch_rows; ++i) {
      const int token = base + i * rows;
      const bool real = token < count && channel < in.channels;
      const R ds = widened(d_y[i]) * (in.z != nullptr ? silu(widened(z[i])) : R(1));
      shared.delta[token][c] = real ? in.step_size(widened(delta[i]) + bias) : R(0);
      shared.u[token][c] = real ? widened(u[i]) : R(0);
      shared.ds[token][c] = real ? ds : R(0);
    }
  }
  stage_rows<S::NP>(in.B, in.B_stride, in.states, from, 1, count, &shared.B[0][0]);
  stage_rows<S::NP>(in.C, in.C_stride, in.states, from, 1, count, &shared.Cs[0][0]);
}

/// Writes d_delta, d_u and d_z of the tokens and channels of a tile from shared memory.
template <class T, class S>
__device__ void write_block(const ScanInputs<T>& in, const ScanGradients<T>& to, std::int64_t from, int count,
                            std::int64_t first_channel, const S& shared) {
  using R = Accumulator<T>;
  constexpr int rows = scan_threads / S::C;
  const int c = static_cast<int>(threadIdx.x) % S::C, row = static_cast<int>(threadIdx.x) / S::C;
  const std::int64_t channel = first_channel + c;
  if (channel >= in.channels) return;
  for (int base = row; base < count; base += tile_prefetch_rows * rows) {
    T d_y[tile_prefetch_rows], z[tile_prefetch_rows];
    if (in.z != nullptr)
#pragma unroll
      for (int i = 0; i < tile_prefetch_rows; ++i) {
        const std::int64_t t = from + min(base + i * rows, count - 1);
        d_y[i] = to.d_y[t * to.d_y_stride + channel];
        z[i] = in.z[t * in.z_stride + channel];
      }
#pragma unroll
    for (int i = 0; i < tile_prefetch_rows; ++i) {
      const int token = base + i * rows;
      if (token >= count) break;
      const std::int64_t t = from + token;
      R d_delta = shared.delta[token][c], d_u = shared.ds[token][c], s = shared.u[token][c];
      if (to.sums.sums != nullptr) {
        const std::int64_t element = t * in.channels + channel, size = in.segments.tokens * in.channels;
        to.sums.complete(d_delta, element);
        to.sums.complete(d_u, size + element);
        if (!to.sums.complete(s, 2 * size + element)) continue;
      }
      to.d_delta[t * to.d_delta_stride + channel] = narrowed<T>(d_delta);
      to.d_u[t * to.d_u_stride + channel] = narrowed<T>(d_u);
      if (in.z != nullptr)
        to.d_z[t * to.d_z_stride + channel] = narrowed<T>(widened(d_y[i]) * s * silu_slope(widened(z[i])));
    }
  }
}

}  // namespace causeway::cuda

#pragma once

#include <type_traits>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/device/tensor_core_tf32.cuh"
#include "kernels/cuda/selective_scan/selective_scan.cuh"

/// The backward pass has the three passes of the forward one: the adjoint's chunk sums, their fold, then each chunk
/// from right to left. The third pass takes 32 tokens at a time (float64: 16), from the state that the forward pass
/// saved before them, in two steps:
///   sweep      forward; h before every 4th token is kept in shared memory
///   backward   4 tokens at a time, from the last to the first: h and exp(ΔA) again, kept in registers, then the
///              adjoint
///
/// A lane has 2 neighbouring channels and 4 neighbouring states of each; a warp has 16 channels by 16 states:
///   lane = part * 8 + pair    channels 2 * pair, 2 * pair + 1    states 4 * part … 4 * part + 3
/// So B and C, which all channels share, are read from shared memory once for two channels, and what belongs to a
/// channel once for four states. A channel with more than 16 states is computed 16 states at a time.
namespace causeway::cuda {

inline constexpr int lane_channels = 2, lane_states = 4;    ///< of a lane
inline constexpr int warp_channels = 16, warp_states = 16;  ///< of a warp
inline constexpr int group_tokens = 4;                      ///< tokens whose h a lane holds at a time
inline constexpr int scan_warps = scan_threads / 32, tile_channels = warp_channels * scan_warps;
/// Tokens of a block of tokens here: of float64 half as many, so that the tile needs as much shared memory.
template <class R>
inline constexpr int backward_tokens = sizeof(R) == 8 ? 16 : 32;
template <class R>
inline constexpr int token_groups = backward_tokens<R> / group_tokens;
static_assert(backward_tokens<double> % selective_scan_block == 0 &&
              backward_tokens<float> % selective_scan_block == 0);

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
  bool pairs;                ///< all rows consist of whole, aligned pairs of channels
};

/// The values of a lane's two channels.
template <class R>
struct alignas(2 * sizeof(R)) Pair {
  R at[lane_channels];
};

/// A pair of neighbouring channels, read or written at once if they are `paired`, else one by one below `channels`.
template <bool paired, class T>
__device__ Pair<T> load_pair(const T* row, int channel, int channels) {
  if constexpr (paired) return *reinterpret_cast<const Pair<T>*>(row + min(channel, channels - 2));
  return {row[min(channel, channels - 1)], row[min(channel + 1, channels - 1)]};
}
template <class T>
__device__ void store_pair(T* row, int channel, int channels, bool paired, Pair<T> x) {
  if (paired) {
    *reinterpret_cast<Pair<T>*>(row + channel) = x;
    return;
  }
  row[channel] = x.at[0];
  if (channel + 1 < channels) row[channel + 1] = x.at[1];
}

/// The shared memory of a block of threads: a tile of 64 channels by the tokens of a block.
template <class R, bool Many>
struct ScanTile {
  static constexpr int tokens = backward_tokens<R>, groups = token_groups<R>;
  using Row = Pair<R>[tile_channels / 2];
  Row delta[tokens], u[tokens], ds[tokens];
  Row dz[tokens];  // d_y silu'(z)
  alignas(16) Quad<R> B[tokens][warp_states / 4], C[tokens][warp_states / 4];
  // For each group of tokens and warp: first h of the lanes before the group, [2 channels][32 lanes]; then, when they
  // have read it, their sums over channels, [d_B, d_C][2 halves of the warp's channels][4 tokens][4 parts].
  Quad<R> exchange[groups][scan_warps][lane_channels * 32];
  // Sums over the states so far: s, Σ g B, Σ g A exp(ΔA) h. Not used if one pass has all states.
  Row sums[Many ? 3 : 1][Many ? tokens : 1];
};
/// What every device of compute capability 8.0 and newer offers a block of threads, 8.6 and 8.9 included.
static_assert(sizeof(ScanTile<double, true>) <= 99 * 1024 && sizeof(ScanTile<float, true>) <= 99 * 1024);

/// Sums 8 values over 4 lanes that are `Stride` apart; `index` is this lane's number among them. Each exchange halves
/// the number of values that a lane keeps. This lane has the sums of values 2·index and 2·index + 1, in v[0] and v[1].
template <int Stride, class R>
__device__ void sum_over_parts(R (&v)[8], int index) {
#pragma unroll
  for (int bit = 2, half = 4; bit > 0; bit /= 2, half /= 2) {
    const bool upper = (index & bit) != 0;
#pragma unroll
    for (int j = 0; j < half; ++j) {
      const R give = upper ? v[j] : v[j + half], keep = upper ? v[j + half] : v[j];
      v[j] = keep + __shfl_xor_sync(~0u, give, bit * Stride);
    }
  }
}

/// Sums over the 4 lanes of a quad (lanes 4g … 4g + 3): of 4 values for each of 4 tokens, lane i of the quad receives
/// those of token i.
template <class R>
struct QuadSums {
  static constexpr R correction = 1;
  R sum[4] = {};

  __device__ explicit QuadSums(int) {}
  __device__ void clear() {}
  template <int token>
  __device__ void add(const R (&v)[4], int lane) {
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      R x = v[m] + __shfl_xor_sync(~0u, v[m], 1);
      x += __shfl_xor_sync(~0u, x, 2);
      if (lane % 4 == token) sum[m] = x;
    }
  }
};

/// The same for float by tensor cores, if the results are rounded to bf16: mma_tf32 with the values as A and, as B, a
/// column of ones for each half of A's columns. Lane 4g + t holds A's rows g and g + 8 in columns t and t + 4, and C's
/// rows g and g + 8 in columns 2t and 2t + 1: so each row of C is a sum over the lanes of quad g. A NaN of one token
/// reaches the others: they must be of one document.
struct TensorQuadSums {
  static constexpr float correction = tf32_correction;
  float sum[4] = {};
  float ones[4][2];  // of token i: whether this lane has column 2i, or 2i + 1, of B

  __device__ explicit TensorQuadSums(int lane) {
#pragma unroll
    for (int i = 0; i < 8; ++i) ones[i / 2][i % 2] = lane / 4 == i ? 1.0f : 0.0f;
  }
  __device__ void clear() { sum[0] = sum[1] = sum[2] = sum[3] = 0; }
  template <int token>
  __device__ void add(const float (&v)[4], int) {
    const float a[4] = {v[0], v[2], v[1], v[3]};
    mma_tf32(sum, a, ones[token][0], ones[token][1]);
  }
};
/// The sums of tokens of one document.
template <class T>
using OneDocumentSums = std::conditional_t<sizeof(T) == 2, TensorQuadSums, QuadSums<Accumulator<T>>>;

/// σ(x), and dΔ/d(delta + delta_bias) from Δ; for bf16 in fewer instructions.
template <class T>
__device__ Accumulator<T> quick_sigmoid(Accumulator<T> x) {
  if constexpr (sizeof(T) == 2) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(1 + exponential_base_2(-x * static_cast<float>(log2_e))));
    return y;
  } else {
    return sigmoid(x);
  }
}
template <class T>
__device__ Accumulator<T> step_slope(const ScanInputs<T>& in, Accumulator<T> y) {
  if (!in.softplus) return 1;
  if constexpr (sizeof(T) == 2) {
    const float series = y * (1 - y * (1.0f / 2 - y * (1.0f / 6 - y * (1.0f / 24))));
    return y < 0.0625f ? series : 1 - exponential_base_2(-y * static_cast<float>(log2_e));
  } else {
    return softplus_slope_at(y);
  }
}

/// Loads Δ, u, d_s and d_y silu'(z) of a block of tokens and the channels of a tile to shared memory. Beyond `count`
/// all are zero: the state stays.
template <bool paired, class T, class S>
__device__ void stage_tile(const ScanInputs<T>& in, const ScanGradients<T>& to, std::int64_t from, int count,
                           int first_channel, S& shared) {
  using R = Accumulator<T>;
  constexpr int batch = 4;  // rows that a thread reads before it uses the first of them
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int channel = first_channel + 2 * lane, channels = static_cast<int>(in.channels);
  const bool gated = in.z != nullptr, whole = count == S::tokens && first_channel + tile_channels <= channels;
  const T *const delta_at = in.delta + from * in.delta_stride, *const u_at = in.u + from * in.u_stride;
  const T *const d_y_at = to.d_y + from * to.d_y_stride, *const z_at = gated ? in.z + from * in.z_stride : d_y_at;
  const int delta_bytes = row_bytes<T>(in.delta_stride), u_bytes = row_bytes<T>(in.u_stride),
            d_y_bytes = row_bytes<T>(to.d_y_stride), z_bytes = gated ? row_bytes<T>(in.z_stride) : d_y_bytes;
  R bias[2];
#pragma unroll
  for (int c = 0; c < 2; ++c) bias[c] = channel + c < channels ? in.bias_of(channel + c) : R(0);
#pragma unroll 1
  for (int base = warp; base < S::tokens; base += batch * scan_warps) {
    Pair<T> delta[batch], u[batch], d_y[batch], z[batch];
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const int row = min(base + i * scan_warps, count - 1);
      delta[i] = load_pair<paired>(row_of(delta_at, row, delta_bytes), channel, channels);
      u[i] = load_pair<paired>(row_of(u_at, row, u_bytes), channel, channels);
      d_y[i] = load_pair<paired>(row_of(d_y_at, row, d_y_bytes), channel, channels);
      z[i] = load_pair<paired>(row_of(z_at, row, z_bytes), channel, channels);
    }
#pragma unroll
    for (int i = 0; i < batch; ++i) {
      const int token = base + i * scan_warps;
      Pair<R> step, x, ds, dz;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const R dy = widened(d_y[i].at[c]), w = widened(z[i].at[c]), sigma = quick_sigmoid<T>(w);
        step.at[c] = in.step_size(widened(delta[i].at[c]) + bias[c]);
        x.at[c] = widened(u[i].at[c]);
        ds.at[c] = gated ? dy * (w * sigma) : dy;
        dz.at[c] = dy * (sigma * (1 + w * (1 - sigma)));
      }
      if (__builtin_expect(!whole, false)) {
#pragma unroll
        for (int c = 0; c < 2; ++c)
          if (token >= count || channel + c >= channels) step.at[c] = x.at[c] = ds.at[c] = dz.at[c] = 0;
      }
      shared.delta[token][lane] = step;
      shared.u[token][lane] = x;
      shared.ds[token][lane] = ds;
      shared.dz[token][lane] = dz;
    }
  }
}

/// Copies states [first_state, first_state + 16) of B or C of a block of tokens to shared memory in the accumulator
/// type. Beyond `count` and the last state all are zero.
template <class T, class R>
__device__ void stage_states(const T* rows, std::int64_t stride, int states, int first_state, std::int64_t from,
                             int count, Quad<R> (*to)[warp_states / 4]) {
  constexpr int each = backward_tokens<R> * warp_states / scan_threads;
  T raw[each];
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const int e = static_cast<int>(threadIdx.x) + i * scan_threads, n = first_state + e % warp_states;
    raw[i] = rows[(from + min(e / warp_states, count - 1)) * stride + min(n, states - 1)];
  }
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const int e = static_cast<int>(threadIdx.x) + i * scan_threads, n = first_state + e % warp_states;
    (&to[0][0].at[0])[e] = e / warp_states < count && n < states ? widened(raw[i]) : R(0);
  }
}

}  // namespace causeway::cuda

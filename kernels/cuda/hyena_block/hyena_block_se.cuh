#pragma once

#include "kernels/cuda/hyena_block/hyena_block_plan.cuh"

/// Featurizer, gates and up to 7 taps by multiply-adds. A lane has two neighbouring channels and goes down the tokens;
/// the earlier rows that it needs are in registers, in rings that are indexed by constants because eight tokens are
/// unrolled. A tile that contains a start of a document, or follows one closely, is computed by a second copy of the
/// code in which each term is selected by whether its tokens are of one document.
namespace causeway::cuda::fused_block {

/// Two neighbouring channels.
struct Pair {
  float at[2];
};
__device__ inline Pair unpacked(std::uint32_t word) { return {low_bf16(word), high_bf16(word)}; }
__device__ inline std::uint32_t packed(const Pair& x) { return pack_bf16(x.at[0], x.at[1]); }
__device__ inline Pair operator*(const Pair& a, const Pair& b) { return {a.at[0] * b.at[0], a.at[1] * b.at[1]}; }
/// sum += a b if `taken`. It selects: a NaN that is not taken changes nothing. Written as fused multiply-adds, so that
/// the compiler has no choice and all tokens have the same sums, whatever their places in a tile.
__device__ inline void add_product(Pair& sum, const Pair& a, const Pair& b, bool taken = true) {
  if (!taken) return;
  sum.at[0] = fmaf(a.at[0], b.at[0], sum.at[0]);
  sum.at[1] = fmaf(a.at[1], b.at[1], sum.at[1]);
}

enum BlockInput { q_input, k_input, v_input, d_y_input };

/// The parameters of a lane's two channels. Lag 0 comes first everywhere; skip is added to tap 0, since c = h∗x +
/// skip⊙x.
struct SeParameters {
  Pair featurizer[3][featurizer_taps], taps[block_taps];

  /// Zeros for channels that do not exist.
  __device__ void load(const BlockFilter& filter, int channel) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const std::int64_t c = channel + e, group = c / (filter.channels / filter.groups);
      const bool exists = c < filter.channels;
#pragma unroll
      for (int n = 0; n < 3; ++n)
#pragma unroll
        for (int j = 0; j < featurizer_taps; ++j)
          featurizer[n][j].at[e] =
              exists && j < filter.width ? filter.featurizer(n * filter.channels + c, filter.width - 1 - j) : 0.0f;
#pragma unroll
      for (int j = 0; j < block_taps; ++j) taps[j].at[e] = exists && j < filter.length ? filter.taps(group, j) : 0.0f;
      if (exists && filter.skip.present()) taps[0].at[e] += filter.skip(c);
    }
  }
};

/// registers: parameters 32, rows of q', k', v' 12, rows of x 12
struct SeForwardLane {
  SeParameters parameters;
  Pair rows[3][4];  ///< row i of q', k', v' at i % 4
  Pair x[8];

  __device__ void clear() {
    for (auto& input : rows)
      for (auto& row : input) row = {};
    for (auto& row : x) row = {};
  }

  /// Computes the eight tokens of a unit. `io` reads words of two channels, `load(input, i)`, and takes y, `store(i,
  /// y)`.
  template <bool Masked, class Io>
  __device__ void compute(const Io& io, unsigned starts) {
    std::uint32_t next[3];
#pragma unroll
    for (int n = 0; n < 3; ++n) next[n] = io.load(n, 0);
#pragma unroll
    for (int i = 0; i < unit_tokens; ++i) {
      Pair featured[3];
#pragma unroll
      for (int n = 0; n < 3; ++n) {
        rows[n][i % 4] = unpacked(next[n]);
        if (i + 1 < unit_tokens) next[n] = io.load(n, i + 1);
        featured[n] = rows[n][i % 4] * parameters.featurizer[n][0];
#pragma unroll
        for (int j = 1; j < featurizer_taps; ++j)
          add_product(featured[n], rows[n][(i + 4 - j) % 4], parameters.featurizer[n][j],
                      reaches<Masked>(starts, i, j));
      }
      x[i] = featured[k_input] * featured[v_input];
      Pair sum = x[i] * parameters.taps[0];
#pragma unroll
      for (int j = 1; j < block_taps; ++j)
        add_product(sum, x[(i + 8 - j) % 8], parameters.taps[j], reaches<Masked>(starts, i, j));
      io.store(i, packed(featured[q_input] * sum));
    }
  }
  template <class Io>
  __device__ void compute(const Io& io, unsigned starts) {
    constexpr unsigned relevant = 0xfff800u;  // of the tokens from 5 before the unit to its last
    if ((starts & relevant) == 0)
      compute<false>(io, starts);
    else
      compute<true>(io, starts);
  }
};

}  // namespace causeway::cuda::fused_block

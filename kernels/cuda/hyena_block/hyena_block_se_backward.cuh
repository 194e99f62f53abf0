#pragma once

#include "kernels/cuda/hyena_block/hyena_block_se.cuh"

/// Gradients, with c = h∗x + skip⊙x: d_q = d_y⊙c; d_c = d_y⊙q; d_taps[j] = Σ_t d_c[t] x[t-j]; d_x[s] = Σ_j h[j]
/// d_c[s+j]; d_k = d_x⊙v, d_v = d_x⊙k; and for each of q, k, v: d_q'[s] = Σ_j w[j] d_q[s+j], d_w[j] = Σ_s d_q[s+j]
/// q'[s]. Every pair of tokens is of one document. d_skip is the sum of d_c x, which is d_taps[0] before channels are
/// added.
///
/// The walk goes forward in time. With token t it has q, k, v, c, d_q, d_c and all terms of d_taps; d_q'[t-2] is
/// complete, and so is d_x[t-6], hence d_k and d_v of t-6 and d_k', d_v' of t-8. Row t-8 of k' and v' is read again for
/// d_w.
namespace causeway::cuda::fused_block {

/// registers: parameters 32, their gradients 32, rows of q', k', v' 12, x, k, v, d_x 14 each, d_q 4, d_k and d_v 12
struct SeBackwardLane {
  SeParameters parameters;
  Pair d_featurizer[3][featurizer_taps], d_taps[block_taps];
  Pair rows[3][4];  ///< row i of q', k', v' at i % 4
  Pair x[8], k[8], v[8];
  Pair d_x[8];          ///< the terms of d_x so far, for the tokens i-6 … i
  Pair d_q[4];          ///< of tokens i-2 … i
  Pair d_k[4], d_v[4];  ///< of tokens i-8 … i-6, at (i-6) % 4

  __device__ void clear() {
    for (auto& input : rows)
      for (auto& row : input) row = {};
    for (int i = 0; i < 8; ++i) x[i] = k[i] = v[i] = d_x[i] = {};
    for (int i = 0; i < 4; ++i) d_q[i] = d_k[i] = d_v[i] = {};
  }
  __device__ void clear_gradients() {
    for (auto& input : d_featurizer)
      for (auto& sum : input) sum = {};
    for (auto& sum : d_taps) sum = {};
  }

  /// row = Σ_j w[j] d[row+j], d_w[j] += d[row+j] raw, with d of the row and of the next two tokens.
  __device__ static Pair back_to_row(const Pair (&w)[featurizer_taps], Pair (&d_w)[featurizer_taps], const Pair& raw,
                                     const Pair& d0, const Pair& d1, const Pair& d2, bool one, bool two) {
    Pair row = w[0] * d0;
    add_product(row, w[1], d1, one);
    add_product(row, w[2], d2, two);
    add_product(d_w[0], raw, d0);
    add_product(d_w[1], raw, d1, one);
    add_product(d_w[2], raw, d2, two);
    return row;
  }

  /// Computes the eight tokens of a unit. `io`: words of two channels of token i, `load(input, i)`, of token i-8 of k'
  /// and v', `load_earlier(input, i)`; takes d_q' of token i-2, `store_q(i, word)`, and d_k', d_v' of token i-8,
  /// `store_earlier(input, i, word)`.
  template <bool Masked, class Io>
  __device__ void compute(const Io& io, unsigned starts) {
    std::uint32_t next[4], earlier[2];
#pragma unroll
    for (int n = 0; n < 4; ++n) next[n] = io.load(n, 0);
#pragma unroll
    for (int n = 0; n < 2; ++n) earlier[n] = io.load_earlier(k_input + n, 0);
#pragma unroll
    for (int i = 0; i < unit_tokens; ++i) {
      // 1. The featurizer.
      Pair featured[3];
      const Pair d_y = unpacked(next[d_y_input]);
      const Pair k_row = unpacked(earlier[0]), v_row = unpacked(earlier[1]);
#pragma unroll
      for (int n = 0; n < 3; ++n) {
        rows[n][i % 4] = unpacked(next[n]);
        featured[n] = rows[n][i % 4] * parameters.featurizer[n][0];
#pragma unroll
        for (int j = 1; j < featurizer_taps; ++j)
          add_product(featured[n], rows[n][(i + 4 - j) % 4], parameters.featurizer[n][j],
                      reaches<Masked>(starts, i, j));
      }
      if (i + 1 < unit_tokens) {  // the loads of the next token come before the stores of this one
#pragma unroll
        for (int n = 0; n < 4; ++n) next[n] = io.load(n, i + 1);
#pragma unroll
        for (int n = 0; n < 2; ++n) earlier[n] = io.load_earlier(k_input + n, i + 1);
      }
      k[i] = featured[k_input];
      v[i] = featured[v_input];
      x[i] = k[i] * v[i];

      // 2. c, d_q, d_c, and the terms of d_taps and d_x.
      const Pair d_c = d_y * featured[q_input];
      Pair c = x[i] * parameters.taps[0];
      add_product(d_taps[0], d_c, x[i]);
      d_x[i] = parameters.taps[0] * d_c;
#pragma unroll
      for (int j = 1; j < block_taps; ++j) {
        const bool one_document = reaches<Masked>(starts, i, j);
        add_product(c, x[(i + 8 - j) % 8], parameters.taps[j], one_document);
        add_product(d_taps[j], x[(i + 8 - j) % 8], d_c, one_document);
        add_product(d_x[(i + 8 - j) % 8], parameters.taps[j], d_c, one_document);
      }

      // 3. The row of q' two tokens before.
      d_q[i % 4] = d_y * c;
      io.store_q(i, packed(back_to_row(parameters.featurizer[q_input], d_featurizer[q_input],
                                       rows[q_input][(i + 2) % 4], d_q[(i + 2) % 4], d_q[(i + 3) % 4], d_q[i % 4],
                                       reaches<Masked>(starts, i - 1, 1), reaches<Masked>(starts, i, 2))));

      // 4. d_k and d_v six tokens before; the rows of k' and v' eight tokens before.
      d_k[(i + 2) % 4] = d_x[(i + 2) % 8] * v[(i + 2) % 8];
      d_v[(i + 2) % 4] = d_x[(i + 2) % 8] * k[(i + 2) % 8];
      const bool one = reaches<Masked>(starts, i - 7, 1), two = reaches<Masked>(starts, i - 6, 2);
      io.store_earlier(k_input, i,
                       packed(back_to_row(parameters.featurizer[k_input], d_featurizer[k_input], k_row, d_k[i % 4],
                                          d_k[(i + 1) % 4], d_k[(i + 2) % 4], one, two)));
      io.store_earlier(v_input, i,
                       packed(back_to_row(parameters.featurizer[v_input], d_featurizer[v_input], v_row, d_v[i % 4],
                                          d_v[(i + 1) % 4], d_v[(i + 2) % 4], one, two)));
    }
  }
  template <class Io>
  __device__ void compute(const Io& io, unsigned starts) {
    constexpr unsigned relevant = 0xfffe00u;  // of the tokens from 7 before the unit to its last
    if ((starts & relevant) == 0)
      compute<false>(io, starts);
    else
      compute<true>(io, starts);
  }

  /// The sums over this lane's tokens, to [parameter, 256 channels] of float, at the lane's first channel.
  __device__ void write_gradients(float* to) const {
#pragma unroll
    for (int n = 0; n < 3; ++n)
#pragma unroll
      for (int j = 0; j < featurizer_taps; ++j) write_pair(to, n * featurizer_taps + j, d_featurizer[n][j]);
#pragma unroll
    for (int j = 0; j < block_taps; ++j) write_pair(to, 3 * featurizer_taps + j, d_taps[j]);
  }

 private:
  __device__ static void write_pair(float* to, int parameter, const Pair& sum) {
    *reinterpret_cast<float2*>(to + parameter * block_channels) = make_float2(sum.at[0], sum.at[1]);
  }
};

}  // namespace causeway::cuda::fused_block

#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// A run of queries and a run of keys and values, both consecutive tokens of one pack, H heads of E numbers. Query t of
/// the queries' run sees key j if they belong to one document and j is not later. The whole pack is one pair with
/// itself; ring, all_gather, zigzag chunks and a KV cache are others. No position needs to be given: the documents of
/// the queries' run reach back before it as far as they do.
struct AttentionInputs {
  TensorView q;     ///< [queries, H, E]
  TensorView k, v;  ///< [keys, H, E]
  std::int64_t key_offset =
      0;  ///< key 0's place in the coordinates of the queries' run: its place in the pack less the run's
  SegmentsView segments;  ///< of the queries' run
};

/// y[t] = Σ_j softmax_j(⟨q_t, k_j⟩/√E) v_j over the keys that t sees, lse[t] = log Σ_j exp(⟨q_t, k_j⟩/√E); y = 0 and
/// lse = -∞ where it sees none. With `accumulate`, y and lse hold the attention of these queries to other keys before,
/// and to both afterwards; so a row of runs of keys needs no other merge. Memory linear in queries and keys: by blocks
/// with a running maximum (Dao et al., arXiv 2205.14135).
struct AttentionForward {
  AttentionInputs in;
  bool accumulate = false;
  TensorView y;    ///< [queries, H, E], q's dtype or its accumulator type (where runs of keys add up, the latter)
  TensorView lse;  ///< [queries, H], accumulator type
};
extern const Kernel<AttentionForward> attention_forward;

/// delta[t,h] = Σ_e y[t,h,e] · d_y[t,h,e], what every pair's backward needs of the final y.
struct AttentionDelta {
  TensorView y;      ///< [tokens, H, E], d_y's dtype or its accumulator type
  TensorView d_y;    ///< [tokens, H, E]
  TensorView delta;  ///< [tokens, H], accumulator type, written
};
extern const Kernel<AttentionDelta> attention_delta;

/// One pair's share of the gradients, given lse and delta of each query over all its keys. With P = exp(QKᵀ/√E - lse)
/// and dS = P ∘ (d_Y Vᵀ - delta): d_q += dS K/√E, d_k += dSᵀ Q/√E, d_v += Pᵀ d_Y.
struct AttentionBackward {
  AttentionInputs in;
  TensorView lse, delta;     ///< [queries, H], accumulator type
  TensorView d_y;            ///< [queries, H, E]
  TensorView d_q, d_k, d_v;  ///< like q, k, v in the accumulator type, added to
};
extern const Kernel<AttentionBackward> attention_backward;

/// Rotary position embedding (Su et al., arXiv 2104.09864), half-split pairs: elements (i, i + E/2) of each head turn
/// by the angle position · base^(-2i/E), where positions restart from 0 in each document. `inverse` turns back, which
/// is the backward pass too. y may be x.
struct Rope {
  TensorView x;           ///< [tokens, H, E], E even
  SegmentsView segments;  ///< of this run
  double base = 10000;
  bool inverse = false;
  TensorView y;  ///< like x
};
extern const Kernel<Rope> rope;

}  // namespace causeway

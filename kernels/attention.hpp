#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

/// Causal attention within documents, and RoPE. Index spaces: kernels/core/segments.hpp. Every kernel throws
/// Error(internal) if shapes or dtypes do not fit.
namespace causeway {

/// A run of queries and a run of keys and values of the same pack, with H heads of E elements. A query attends to a key
/// if both belong to one document and the key is not later. Examples of such pairs: a whole pack with itself; a rank's
/// queries with the keys of another rank (ring, all_gather, zigzag chunks); new tokens with a KV cache. The documents
/// of the queries' run are enough to decide which keys a query attends to: they reach back before the run.
struct AttentionInputs {
  TensorView q;                 ///< [queries, H, E]
  TensorView k, v;              ///< [keys, H, E], q's dtype
  std::int64_t key_offset = 0;  ///< the first key as a run row of the queries: global token of key 0 minus that of
                                ///< query 0; negative where the keys begin earlier
  SegmentsView segments;        ///< documents of the queries' run
};

/// y[t] = Σ_j softmax_j(⟨q_t, k_j⟩/√E) v_j and lse[t] = log Σ_j exp(⟨q_t, k_j⟩/√E), over the keys j that t attends to;
/// y = 0 and lse = -∞ if there is no such key. With `accumulate`, y and lse already hold the attention of these queries
/// to other keys, and afterwards to both sets of keys: no other kernel merges several runs of keys. Memory is linear in
/// queries and keys: keys are processed in blocks, with a running maximum (Dao et al., arXiv 2205.14135). Sums are in
/// the accumulator type, but fused kernels round each call's y (attention_form).
///
/// A NaN or an infinity never leaves its document. Within it, it reaches only the queries that see it, and the keys
/// that these see, unless the device computes the inputs by fused kernels (attention_form).
struct AttentionForward {
  AttentionInputs in;
  bool accumulate = false;
  TensorView y;    ///< [queries, H, E], q's dtype or its accumulator type, which is for sums over runs of keys
  TensorView lse;  ///< [queries, H], accumulator type
};
extern const Kernel<AttentionForward> attention_forward;

/// delta[t,h] = Σ_e y[t,h,e] · d_y[t,h,e], from the final y. The backward of every pair needs it.
struct AttentionDelta {
  TensorView y;      ///< [tokens, H, E], d_y's dtype or its accumulator type
  TensorView d_y;    ///< [tokens, H, E]
  TensorView delta;  ///< [tokens, H], accumulator type, written
};
extern const Kernel<AttentionDelta> attention_delta;

/// The contribution of one pair to the gradients, given each query's lse and delta over all its keys. With
/// P = exp(QKᵀ/√E - lse) and dS = P ⊙ (d_Y Vᵀ - delta): d_q += dS K/√E, d_k += dSᵀ Q/√E, d_v += Pᵀ d_Y. Without
/// `accumulate` the gradients are written instead of added to, and each may also be in q's dtype.
struct AttentionBackward {
  AttentionInputs in;
  bool accumulate = true;
  TensorView lse, delta;     ///< [queries, H], accumulator type
  TensorView d_y;            ///< [queries, H, E], q's dtype
  TensorView d_q, d_k, d_v;  ///< the shapes of q, k, v, in the accumulator type
};
extern const Kernel<AttentionBackward> attention_backward;

/// How a device computes attention of inputs of some form.
struct AttentionForm {
  /// By a library's fused kernels. In q's dtype they round each call's y before it is merged, and its gradients: a
  /// caller who asks for gradients of that type loses nothing. A NaN or an infinity reaches every query of its
  /// document, also earlier ones, but no other document.
  bool fused = false;
  std::int64_t workspace = 0;  ///< bytes that attention_backward takes beside its arguments, at most
};
/// Reads only shapes and dtype of the inputs; `in.segments` may be absent, then whatever the documents are.
AttentionForm attention_form(Device device, const AttentionInputs& in);

/// The angles of RoPE: pair i of a head at `position` is rotated by position / scaling · f_i, with f_i = base^(-2i/E),
/// or inv_freq[i] if that is present. A scaling above 1 is linear position interpolation (Chen et al., arXiv
/// 2306.15595). Files store inv_freq in float32. In f64, an element that differs from base^(-2i/E) by float32's
/// rounding only (relative 2^-21) is taken as base^(-2i/E): so do the published programs, which compute the frequencies
/// again when a model is cast to float64.
struct RopeAngles {
  double base = 10000;  ///< > 0
  double scaling = 1;   ///< > 0
  TensorView inv_freq;  ///< [E/2], accumulator type, or absent
};
/// Largest relative difference of an element of inv_freq that was computed and stored in float32.
inline constexpr double inv_freq_rounding = 0x1p-21;

/// Rotary position embedding (Su et al., arXiv 2104.09864) with half-split pairs: the pair of elements (i, i + E/2) of
/// each head is rotated. Positions start from 0 in each document. `inverse` rotates back by the same angle: that is
/// the backward too. Angles are computed in float64. y may be the same memory as x.
struct Rope {
  TensorView x;           ///< [tokens, H, E], E even
  SegmentsView segments;  ///< documents of this run
  RopeAngles angles;
  bool inverse = false;
  TensorView y;  ///< x's shape and dtype
};
extern const Kernel<Rope> rope;

}  // namespace causeway

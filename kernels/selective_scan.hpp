#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

namespace causeway {

/// Tokens between two states that the forward saves for the backward.
inline constexpr std::int64_t selective_scan_block = 64;

/// What forward, backward and both summaries of Mamba-1's scan (arXiv 2312.00752) read. D channels, N states.
struct SelectiveScanInputs {
  TensorView u, delta;    ///< [tokens, D]
  TensorView z;           ///< [tokens, D], or absent: no gate
  TensorView A;           ///< [D, N], accumulator type, negative
  TensorView B, C;        ///< [tokens, N]
  TensorView D;           ///< [D], accumulator type
  TensorView delta_bias;  ///< [D], accumulator type, or absent
  bool delta_softplus = true;
  SegmentsView segments;  ///< of this run
};

/// Δ = softplus(delta + delta_bias) (identity above 20; without delta_softplus Δ = delta + delta_bias);
/// h_t = exp(Δ_t A) ∘ h_{t-1} + Δ_t u_t B_t; y_t = (⟨C_t, h_t⟩ + D u_t) · silu(z_t); h restarts from zero in each
/// document, or from `state_in` where the run's first document began before it. All in the accumulator type.
struct SelectiveScanForward {
  SelectiveScanInputs in;
  TensorView state_in;  ///< [D, N], accumulator type: h just before the run; read only where the first document
                        ///< continues. Absent: zero
  TensorView y;         ///< [tokens, D]
  TensorView states;  ///< [⌈tokens/selective_scan_block⌉, D, N] accumulator type, written: h just before each block, in
                      ///< the device's own order inside a block, for backward; or absent
};
extern const Kernel<SelectiveScanForward> selective_scan_forward;

/// With ds = d_y·silu(z): g_t = C_t ds_t + exp(Δ_{t+1}A) g_{t+1}, restarting at a document's end, or from `adjoint_in`
/// where the run's last document goes on after it; d_u = D ds + Δ Σ_n g B; d_B = Σ_d g Δ u; d_C = Σ_d ds h; dΔ = Σ_n g
/// (B u + A exp(ΔA) h_{t-1}); d_A += Σ_t g Δ exp(ΔA) h_{t-1}; d_delta = dΔ·σ(delta+delta_bias) (dΔ above 20 and without
/// softplus); d_delta_bias += Σ d_delta; d_D += Σ ds u; d_z = d_y · s · σ(z)(1 + z(1-σ(z))). Sums over channels run in
/// a fixed order.
struct SelectiveScanBackward {
  SelectiveScanInputs in;
  TensorView states;      ///< as the forward wrote them
  TensorView adjoint_in;  ///< [D, N], accumulator type: ∂loss/∂h of the run's last token through the tokens after the
                          ///< run; read only where the last document goes on. Absent: zero
  TensorView d_y;                     ///< [tokens, D]
  TensorView d_u, d_delta, d_B, d_C;  ///< like their inputs, written
  TensorView d_z;                     ///< likewise, absent with z
  TensorView d_A, d_D, d_delta_bias;  ///< accumulator type, added to; d_delta_bias absent with delta_bias
};
extern const Kernel<SelectiveScanBackward> selective_scan_backward;

/// What a run hands to its right-hand neighbour, from a zero start: `state` = h after the run's last token and
/// `sum_delta` = Σ Δ over it, both over the tail of the run that belongs to its last document. (Π exp(Δ A) = exp(A
/// ΣΔ).)
struct SelectiveScanSummary {
  SelectiveScanInputs in;  ///< C, D, z unread
  TensorView state;        ///< [D, N], accumulator type, written
  TensorView sum_delta;    ///< [D], likewise
};
extern const Kernel<SelectiveScanSummary> selective_scan_summary;

/// What a run hands to its left-hand neighbour: `adjoint` = ∂loss/∂(h just before the run) through the run's own
/// tokens, and `sum_delta` = Σ Δ, both over the head of the run that belongs to its first document.
struct SelectiveScanAdjointSummary {
  SelectiveScanInputs in;  ///< u, B, D unread
  TensorView d_y;          ///< [tokens, D]
  TensorView adjoint;      ///< [D, N], accumulator type, written
  TensorView sum_delta;    ///< [D], likewise
};
extern const Kernel<SelectiveScanAdjointSummary> selective_scan_adjoint_summary;

/// carry = summary_state + exp(A · sum_delta) ∘ carry: one step of the fold over runs. In place; carry, summary_state
/// [D, N], sum_delta [D].
struct SelectiveScanFold {
  TensorView A, summary_state, sum_delta;
  TensorView carry;
};
extern const Kernel<SelectiveScanFold> selective_scan_fold;

}  // namespace causeway

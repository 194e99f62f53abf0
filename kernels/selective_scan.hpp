#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

/// The selective scan of Mamba-1 (Gu & Dao, arXiv 2312.00752), with documents packed as in PackMamba (arXiv
/// 2408.03865). All states, exponentials and sums are in the accumulator type of delta's dtype. Every kernel throws
/// Error(internal) if shapes or dtypes do not fit.
namespace causeway {

/// Tokens between two states that the forward saves for the backward.
inline constexpr std::int64_t selective_scan_block = 16;

/// The inputs of forward, backward and both summaries, for D channels with N states each. Activations have one dtype.
struct SelectiveScanInputs {
  TensorView u, delta;    ///< [tokens, D]
  TensorView z;           ///< [tokens, D], or absent: no gate
  TensorView A;           ///< [D, N], accumulator type, negative
  TensorView B, C;        ///< [tokens, N]
  TensorView D;           ///< [D], accumulator type
  TensorView delta_bias;  ///< [D], accumulator type, or absent
  bool delta_softplus = true;
  SegmentsView segments;  ///< documents of this run
};

/// Δ = softplus(delta + delta_bias) (the identity above 20; without delta_softplus Δ = delta + delta_bias);
/// h_t = exp(Δ_t A) ⊙ h_{t-1} + Δ_t u_t B_t; y_t = (⟨C_t, h_t⟩ + D u_t) · silu(z_t). h restarts from zero in each
/// document, or from `state_in` if the run's first document began before it.
struct SelectiveScanForward {
  SelectiveScanInputs in;
  TensorView state_in;  ///< [D, N], accumulator type: h just before the run. Read only if the run's first document
                        ///< began before it. Absent: zero
  TensorView y;         ///< [tokens, D]
  TensorView states;  ///< [⌈tokens/selective_scan_block⌉, D, N], accumulator type, written: h just before each block,
                      ///< for the backward, in an order that the device chooses; or absent
  TensorView state_out;  ///< [D, N], accumulator type, written unless the run has no tokens: h of the run's last token;
                         ///< or absent. Defined only if the run's last document continues after it
};
extern const Kernel<SelectiveScanForward> selective_scan_forward;

/// With s_t = ⟨C_t, h_t⟩ + D u_t and ds = d_y·silu(z): g_t = C_t ds_t + exp(Δ_{t+1} A) g_{t+1}. g restarts from zero at
/// the end of each document, or from `adjoint_in` if the run's last document continues after it.
///     d_u = D ds + Δ Σ_n g B            d_B = Σ_d g Δ u            d_C = Σ_d ds h
///     dΔ = Σ_n g (B u + A exp(ΔA) h_{t-1})                         d_delta = dΔ·σ(delta + delta_bias)
///     d_A += Σ_t g Δ exp(ΔA) h_{t-1}    d_delta_bias += Σ d_delta  d_D += Σ ds u
///     d_z = d_y · s · σ(z)(1 + z(1-σ(z)))
/// d_delta = dΔ above 20 and without delta_softplus. Sums over channels are added in a fixed order.
struct SelectiveScanBackward {
  SelectiveScanInputs in;
  TensorView states;      ///< as the forward wrote them
  TensorView adjoint_in;  ///< [D, N], accumulator type: ∂loss/∂h of the run's last token through the tokens
                          ///< after the run. Read only if the run's last document continues after it.
                          ///< Absent: zero
  TensorView d_y;         ///< [tokens, D]
  TensorView d_u, d_delta, d_B, d_C;  ///< the shapes and dtype of their inputs, written
  TensorView d_z;                     ///< likewise; absent if z is
  TensorView d_A, d_D, d_delta_bias;  ///< accumulator type, added to; d_delta_bias is absent if delta_bias is
  TensorView adjoint_out;  ///< [D, N], accumulator type, written unless the run has no tokens: ∂loss/∂(h just before
                           ///< the run); or absent. Defined only if the run's first document began before it
};
extern const Kernel<SelectiveScanBackward> selective_scan_backward;

/// The summary that a run passes to the run on its right, from a zero start: `state` = h after the run's last token,
/// and `sum_delta` = Σ Δ (since Π exp(Δ A) = exp(A ΣΔ)), both over the tokens of the run that belong to its last
/// document.
struct SelectiveScanSummary {
  SelectiveScanInputs in;  ///< C, D and z are not read
  TensorView state;        ///< [D, N], accumulator type, written
  TensorView sum_delta;    ///< [D], accumulator type, written
};
extern const Kernel<SelectiveScanSummary> selective_scan_summary;

/// The summary that a run passes to the run on its left: `adjoint` = ∂loss/∂(h just before the run) through the run's
/// own tokens, and `sum_delta` = Σ Δ, both over the tokens of the run that belong to its first document.
struct SelectiveScanAdjointSummary {
  SelectiveScanInputs in;  ///< u, B and D are not read
  TensorView d_y;          ///< [tokens, D]
  TensorView adjoint;      ///< [D, N], accumulator type, written
  TensorView sum_delta;    ///< [D], accumulator type, written
};
extern const Kernel<SelectiveScanAdjointSummary> selective_scan_adjoint_summary;

/// One step of the fold over runs, in place: carry = summary_state + exp(A · sum_delta) ⊙ carry.
struct SelectiveScanFold {
  TensorView A, summary_state;  ///< [D, N]
  TensorView sum_delta;         ///< [D]
  TensorView carry;             ///< [D, N], updated
};
extern const Kernel<SelectiveScanFold> selective_scan_fold;

}  // namespace causeway

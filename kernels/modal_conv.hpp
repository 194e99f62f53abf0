#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/gated_conv.hpp"

/// hyena_li of StripedHyena 2 (arXiv 2503.01868) as a diagonal linear recurrence of M modes a channel. All states,
/// carries and sums are in the accumulator type. Every kernel throws Error(internal) if shapes or dtypes do not fit.
namespace causeway {

/// Tokens between two states that the forward saves for the backward.
inline constexpr std::int64_t modal_conv_block = 64;

/// y of GatedConvInputs with the filter h_t[d] = Σ_m residues[d,m] · λ[d,m]^t, λ = exp(-exp(log_rates)). That is
/// s_t = λ s_{t-1} + (k⊙v)_t and (h∗kv)_t = Σ_m residues s_t. s restarts from zero in each document, or from `state_in`
/// if the run's first document began before it. Computed in short pieces: a Toeplitz product within a piece, and a
/// state carried from piece to piece. So the rounding errors of modes near λ = 1 grow with the number of pieces, not of
/// tokens.
struct ModalConvForward {
  GatedConvInputs in;
  TensorView residues, log_rates;  ///< [D, M], accumulator type
  TensorView state_in;             ///< [D, M], accumulator type: s just before the run. Read only if the run's first
                                   ///< document began before it. Absent: zero
  TensorView y;                    ///< [tokens, D], v's dtype
  TensorView states;  ///< [⌈tokens/modal_conv_block⌉, D, M], accumulator type, written: s just before each block, for
                      ///< the backward, in an order that the device chooses; or absent
  TensorView state_out;  ///< [D, M], accumulator type, written unless the run has no tokens: s of the run's last token;
                         ///< or absent. Defined only if the run's last document continues after it
};
extern const Kernel<ModalConvForward> modal_conv_forward;

/// GatedConvGradients by the adjoint recurrence G_t = residues·dc_t + λ G_{t+1}. G restarts from zero at the end of
/// each document, or from `adjoint_in` if the run's last document continues after it. d_kv = Σ_m G + skip dc;
/// d_residues += Σ_t dc_t s_t; d_log_rates += -exp(log_rates) λ Σ_t G_t s_{t-1}.
struct ModalConvBackward {
  GatedConvInputs in;
  TensorView residues, log_rates;
  TensorView state_in;    ///< as in forward; read only if `states` is absent
  TensorView states;      ///< as the forward wrote them. Absent: they are computed again
  TensorView adjoint_in;  ///< [D, M], accumulator type: ∂loss/∂s of the run's last token through the tokens after the
                          ///< run. Read only if the run's last document continues after it. Absent: zero
  GatedConvGradients gradients;
  TensorView d_residues, d_log_rates;  ///< [D, M], accumulator type, added to
  TensorView adjoint_out;  ///< [D, M], accumulator type, written unless the run has no tokens: ∂loss/∂(s just before
                           ///< the run); or absent. Defined only if the run's first document began before it
};
extern const Kernel<ModalConvBackward> modal_conv_backward;

/// The state that a run passes to the run on its right: s after the run's last token, from a zero start, over the
/// tokens of the run that belong to its last document.
struct ModalConvSummary {
  GatedConvInputs in;    ///< only k and v are read
  TensorView log_rates;  ///< [D, M]
  TensorView state;      ///< [D, M], accumulator type, written
};
extern const Kernel<ModalConvSummary> modal_conv_summary;

/// The adjoint that a run passes to the run on its left: ∂loss/∂(s just before the run) through the run's own tokens,
/// over the tokens of the run that belong to its first document.
struct ModalConvAdjointSummary {
  GatedConvInputs in;              ///< q is read; of v only the shape and the dtype
  TensorView residues, log_rates;  ///< [D, M]
  TensorView d_y;                  ///< [tokens, D], v's dtype
  TensorView adjoint;              ///< [D, M], accumulator type, written
};
extern const Kernel<ModalConvAdjointSummary> modal_conv_adjoint_summary;

/// One step of the fold over runs, in place: carry = summary_state + λ^tokens ⊙ carry.
struct ModalConvFold {
  TensorView log_rates, summary_state;  ///< [D, M]
  std::int64_t tokens = 0;              ///< that the summary covers
  TensorView carry;                     ///< [D, M], updated
};
extern const Kernel<ModalConvFold> modal_conv_fold;

/// The filter itself, for the methods `direct` and `fft`: taps[d,t] = Σ_m residues[d,m] · exp(-exp(log_rates[d,m]) t),
/// t < len.
struct ModalFilter {
  TensorView residues, log_rates;  ///< [D, M], accumulator type
  TensorView taps;                 ///< [D, len], the same type, written
};
extern const Kernel<ModalFilter> modal_filter;

/// d_residues += Σ_t d_taps[d,t] λ^t; d_log_rates += -exp(log_rates) residues Σ_t d_taps[d,t] t λ^t.
struct ModalFilterBackward {
  TensorView residues, log_rates;
  TensorView d_taps;                   ///< [D, len]
  TensorView d_residues, d_log_rates;  ///< [D, M], added to
};
extern const Kernel<ModalFilterBackward> modal_filter_backward;

}  // namespace causeway

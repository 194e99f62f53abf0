#pragma once

#include <cstdint>

#include "kernels/core/kernel.hpp"
#include "kernels/gated_conv.hpp"

namespace causeway {

/// Tokens between two states that the forward saves for the backward.
inline constexpr std::int64_t modal_conv_block = 64;

/// hyena_li as a diagonal linear recurrence of M modes a channel: y of GatedConvInputs with the filter h_t[d] = Σ_m
/// residues[d,m] · λ[d,m]^t, λ = exp(-exp(log_rates)), i.e. s_t = λ s_{t-1} + (k⊙v)_t, (h∗kv)_t = Σ_m residues s_t; s
/// restarts from zero in each document, or from `state_in` where the run's first document began before it. Worked off
/// in short blocks, an intra-block Toeplitz product and a carried state each, so that rounding errors of modes near λ =
/// 1 grow with the number of blocks, not of tokens. StripedHyena 2, arXiv 2503.01868.
struct ModalConvForward {
  GatedConvInputs in;
  TensorView residues, log_rates;  ///< [D, M], accumulator type
  TensorView state_in;  ///< [D, M], accumulator type: s just before the run; read only where the first document
                        ///< continues. Absent: zero
  TensorView y;         ///< [tokens, D]
  TensorView states;  ///< [⌈tokens/modal_conv_block⌉, D, M] accumulator type, written: s just before each block, for
                      ///< backward, in an order of the device's own; or absent
};
extern const Kernel<ModalConvForward> modal_conv_forward;

/// GatedConvGradients by the adjoint recurrence G_t = residues·dc_t + λ G_{t+1}, restarting at a document's end, or
/// from `adjoint_in` where the run's last document goes on after it: d_kv = Σ_m G + skip dc; d_residues += Σ_t dc_t
/// s_t; d_log_rates += -exp(log_rates) λ Σ_t G_t s_{t-1}.
struct ModalConvBackward {
  GatedConvInputs in;
  TensorView residues, log_rates;
  TensorView states;      ///< as the forward wrote them
  TensorView adjoint_in;  ///< [D, M], accumulator type: ∂loss/∂s of the run's last token through the tokens after the
                          ///< run; read only where the last document goes on. Absent: zero
  GatedConvGradients gradients;
  TensorView d_residues, d_log_rates;  ///< [D, M], accumulator type, added to
};
extern const Kernel<ModalConvBackward> modal_conv_backward;

/// What a run hands to its right-hand neighbour: s after the run's last token, from a zero start, over the tail of the
/// run that belongs to its last document.
struct ModalConvSummary {
  GatedConvInputs in;    ///< k and v are read
  TensorView log_rates;  ///< [D, M]
  TensorView state;      ///< [D, M], accumulator type, written
};
extern const Kernel<ModalConvSummary> modal_conv_summary;

/// What a run hands to its left-hand neighbour: ∂loss/∂(s just before the run) through the run's own tokens, over the
/// head of the run that belongs to its first document.
struct ModalConvAdjointSummary {
  GatedConvInputs in;              ///< q is read; k and v are not, but v gives D and the dtype
  TensorView residues, log_rates;  ///< [D, M]
  TensorView d_y;                  ///< [tokens, D]
  TensorView adjoint;              ///< [D, M], accumulator type, written
};
extern const Kernel<ModalConvAdjointSummary> modal_conv_adjoint_summary;

/// carry = summary_state + λ^tokens ∘ carry: one step of the fold over runs, `tokens` being how many the summary spans.
/// In place; all [D, M].
struct ModalConvFold {
  TensorView log_rates, summary_state;
  std::int64_t tokens = 0;
  TensorView carry;
};
extern const Kernel<ModalConvFold> modal_conv_fold;

/// taps[d,t] = Σ_m residues[d,m] · exp(-exp(log_rates[d,m]) t), t < len: the filter itself, for the direct and the FFT
/// method.
struct ModalFilter {
  TensorView residues, log_rates;  ///< [D, M]
  TensorView taps;                 ///< [D, len], the same (accumulator) type, written
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

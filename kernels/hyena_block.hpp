#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/core/segments.hpp"
#include "kernels/core/tensor.hpp"

/// hyena_block: what a mixer of StripedHyena 2 (arXiv 2503.01868) computes between its two projections. That is three
/// operators in one: the featurizer, a causal_conv without bias and activation; the gates; and hyena_se, hyena_mr or
/// hyena_li. Every kernel throws Error(internal) if shapes or dtypes do not fit.
namespace causeway {

/// With f = the featurizer's result (f_q, f_k, f_v; rounded to q's dtype):
///   f_q[t,d] = Σ_{j<W} featurizer[d,W-1-j] · q[t-j,d], f_k and f_v likewise with rows D+d and 2D+d of the featurizer
///   y = f_q ⊙ ( h∗(f_k⊙f_v) + skip ⊙ (f_k⊙f_v) )
/// The filter h is either given by `taps` (as in blocked_conv.hpp) or by `residues` and `log_rates` (modal_conv.hpp).
/// No sum reaches over the start of a document.
struct HyenaBlockInputs {
  TensorView q, k, v;  ///< [tokens, D]: before the featurizer. They may be columns of one [tokens, 3D]; side by side,
                       ///< one call of the featurizer takes all three
  TensorView halo;     ///< [block_reach(), 3D], q's dtype: the rows of q, k and v, side by side, just before the run;
                       ///< the nearest one last. Read only as far as the run's first document reaches back. May be
                       ///< absent if it does not
  TensorView featurizer;           ///< [3D, W], q's dtype
  TensorView skip;                 ///< [D], q's dtype or its accumulator type, or absent
  TensorView taps;                 ///< [G, len], q's dtype or its accumulator type; or absent
  TensorView residues, log_rates;  ///< [D, M], accumulator type; absent if there are taps
  SegmentsView segments;           ///< documents of this run

  bool modal() const { return !taps.present(); }
};

/// How many rows before a run its results depend on through `halo`: those of the featurizer, and with taps also those
/// of the filter. A modal filter receives the earlier rows in a state.
inline std::int64_t block_reach(const HyenaBlockInputs& in) {
  const std::int64_t featurizer = in.featurizer.present() ? in.featurizer.columns() - 1 : 0;
  return featurizer + (in.modal() ? 0 : in.taps.columns() - 1);
}

struct HyenaBlockForward {
  HyenaBlockInputs in;
  TensorView state_in;   ///< modal: [D, M], accumulator type: the modes' state just before the run. Absent: zero
  TensorView y;          ///< [tokens, D], q's dtype; other memory than q, k and v
  TensorView state_out;  ///< modal: as in ModalConvForward, or absent
};
extern const Kernel<HyenaBlockForward> hyena_block_forward;

/// All gradients, from q, k and v before the featurizer: the featurizer and the gates are computed again, and with a
/// modal filter its states. Gradients of rows before the run are returned in d_halo.
struct HyenaBlockBackward {
  HyenaBlockInputs in;
  TensorView state_in;       ///< modal: as in forward
  TensorView adjoint_in;     ///< modal: [D, M], as in ModalConvBackward. Absent: zero
  TensorView d_y;            ///< [tokens, D], q's dtype
  TensorView d_q, d_k, d_v;  ///< [tokens, D], q's dtype, written; other memory than q, k, v and d_y
  TensorView d_halo;         ///< [block_reach(), 3D], q's dtype, written, zero in rows that no document reaches.
                             ///< May be absent if no document reaches back
  TensorView d_featurizer;   ///< [3D, W], accumulator type, added to
  TensorView d_skip;         ///< [D], accumulator type, added to; absent if skip is
  TensorView d_taps;         ///< [G, len], accumulator type, added to; absent if taps is
  TensorView d_residues, d_log_rates;  ///< [D, M], accumulator type, added to; absent if there are taps
  TensorView adjoint_out;              ///< modal: as in ModalConvBackward, or absent
};
extern const Kernel<HyenaBlockBackward> hyena_block_backward;

/// Whether a device computes a call in one pass over its arguments, by a kernel of its own: without temporaries of
/// [tokens, 3D], and with all that lies between its inputs and its results in the accumulator type.
bool hyena_block_is_fused(Device device, const HyenaBlockForward& args);
bool hyena_block_is_fused(Device device, const HyenaBlockBackward& args);

/// The state that a run with a modal filter passes to the run on its right: ModalConvSummary of f_k and f_v.
struct HyenaBlockSummary {
  HyenaBlockInputs in;  ///< q is not read
  TensorView state;     ///< [D, M], accumulator type, written
};
extern const Kernel<HyenaBlockSummary> hyena_block_summary;

/// The adjoint that it passes to the run on its left: ModalConvAdjointSummary of f_q.
struct HyenaBlockAdjointSummary {
  HyenaBlockInputs in;  ///< of k and v only shapes and dtypes are read
  TensorView d_y;       ///< [tokens, D], q's dtype
  TensorView adjoint;   ///< [D, M], accumulator type, written
};
extern const Kernel<HyenaBlockAdjointSummary> hyena_block_adjoint_summary;

}  // namespace causeway

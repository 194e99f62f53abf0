#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/gated_conv.hpp"

namespace causeway {

/// The convolution of long_conv (Hyena, arXiv 2302.10866; its x is v here, q and k are absent) and of hyena_li's method
/// `fft`: y of GatedConvInputs with a filter of any length, (h∗x)[t,d] = Σ_{j<len} taps[g(d),j] · x[t-j,d],
/// g(d) = d / (D/G). The sum stops at the start of t's document; len may exceed the longest document. Each document is
/// padded with zeros and transformed by FFT, documents of one padded length together: the number of FFT calls grows
/// with the padded tokens and with the number of distinct padded lengths, not with the number of documents. Computed in
/// the accumulator type. Throws Error(internal) if shapes or dtypes do not fit, or if a document reaches beyond the
/// run.
struct FftConvForward {
  GatedConvInputs in;
  TensorView taps;  ///< [G, len], v's dtype or its accumulator type; lag 0 first
  TensorView y;     ///< [tokens, D], v's dtype
};
extern const Kernel<FftConvForward> fft_conv_forward;

/// GatedConvGradients, and d_taps[g,j] += Σ_{d∈g,t} dc[t,d] · (k⊙v)[t-j,d].
struct FftConvBackward {
  GatedConvInputs in;
  TensorView taps;  ///< as in forward
  GatedConvGradients gradients;
  TensorView d_taps;  ///< [G, len], accumulator type, added to
};
extern const Kernel<FftConvBackward> fft_conv_backward;

}  // namespace causeway

#pragma once

#include "kernels/core/kernel.hpp"
#include "kernels/gated_conv.hpp"

namespace causeway {

/// long_conv (Hyena, arXiv 2302.10866; v is its x, q and k absent) and hyena_li's `fft` method: y of GatedConvInputs
/// with any filter, (h∗x)[t,d] = Σ_{j<len} taps[g(d),j] · x[t-j,d], g(d) = d / (D/G), the sum stopping at the start of
/// t's document; len may exceed the longest document. By FFT of each document padded with zeros, documents of one
/// padded length together: the number of FFT calls grows with the padded tokens and the distinct padded lengths, not
/// with the number of documents. The run must hold whole documents.
struct FftConvForward {
  GatedConvInputs in;
  TensorView taps;  ///< [G, len], v's dtype or its accumulator type; lag 0 first
  TensorView y;     ///< [tokens, D]
};
extern const Kernel<FftConvForward> fft_conv_forward;

/// GatedConvGradients, and d_taps[g,j] += Σ_{d∈g,t} dc[t,d] · (k⊙v)[t-j,d].
struct FftConvBackward {
  GatedConvInputs in;
  TensorView taps;
  GatedConvGradients gradients;
  TensorView d_taps;  ///< [G, len], accumulator type, added to
};
extern const Kernel<FftConvBackward> fft_conv_backward;

}  // namespace causeway

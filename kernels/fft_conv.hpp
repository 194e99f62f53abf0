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
  /// [fft_conv_spectra_values()], accumulator type, written for backward; or absent
  TensorView spectra = {};
};
extern const Kernel<FftConvForward> fft_conv_forward;

/// GatedConvGradients, and d_taps[g,j] += Σ_{d∈g,t} dc[t,d] · (k⊙v)[t-j,d].
struct FftConvBackward {
  GatedConvInputs in;
  TensorView taps;  ///< as in forward
  GatedConvGradients gradients;
  TensorView d_taps;  ///< [G, len], accumulator type, added to
  /// What forward wrote with the same inputs, read; or absent. The results have the same bits with it and without.
  TensorView spectra = {};
};
extern const Kernel<FftConvBackward> fft_conv_backward;

/// *values = the number of elements of FftConvForward::spectra: 0 where nothing is worth keeping, as on the CPU. On a
/// GPU it is twice the sum of N (D + G) over the documents of 4096 to 2^20 points N that are computed in float32, the
/// part of the G filters once a length class. Reads only shapes, dtypes and the host copy of the documents.
struct FftConvSpectra {
  GatedConvInputs in;
  TensorView taps;
  std::int64_t* values;
};
extern const Kernel<FftConvSpectra> fft_conv_spectra;

inline std::int64_t fft_conv_spectra_values(const Stream& stream, const GatedConvInputs& in, TensorView taps) {
  std::int64_t values = 0;
  fft_conv_spectra(stream, {.in = in, .taps = taps, .values = &values});
  return values;
}

}  // namespace causeway

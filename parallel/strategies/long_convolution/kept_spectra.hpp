#pragma once

#include <optional>

#include "parallel/strategy.hpp"

/// Which spectra of fft_conv a forward pass keeps for backward.
namespace causeway::long_convolution {

/// Whether `bytes` of spectra are kept, on a device with `free_bytes` of memory free. False if there are none.
bool keeps_spectra(KeepSpectra keep, std::int64_t bytes, std::optional<std::int64_t> free_bytes);

/// fft_conv_forward, which keeps its spectra in `saved` if keeps_spectra() says so; and fft_conv_backward, which takes
/// them out.
void fft_conv_forward_saving(const StrategyContext& context, FftConvForward args, Saved* saved);
void fft_conv_backward_saved(const StrategyContext& context, FftConvBackward args, Saved& saved);

}  // namespace causeway::long_convolution

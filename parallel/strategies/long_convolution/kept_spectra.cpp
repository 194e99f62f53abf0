#include "parallel/strategies/long_convolution/kept_spectra.hpp"

namespace causeway::long_convolution {
namespace {

/// The free memory is at least this many times the spectra: the layers that follow, and backward, need some, too.
constexpr std::int64_t free_share = 8;

}  // namespace

bool keeps_spectra(KeepSpectra keep, std::int64_t bytes, std::optional<std::int64_t> free_bytes) {
  if (bytes == 0 || keep == KeepSpectra::never) return false;
  return keep == KeepSpectra::always || (free_bytes && bytes <= *free_bytes / free_share);
}

void fft_conv_forward_saving(const StrategyContext& context, FftConvForward args, Saved* saved) {
  Tensor spectra;
  if (saved != nullptr) {
    const std::int64_t values = fft_conv_spectra_values(context.stream, args.in, args.taps);
    const DType dtype = accumulator_of(args.in.v.dtype);
    if (keeps_spectra(context.keep_spectra, values * size_of(dtype), context.stream.memory().free_device_bytes()))
      spectra = Tensor(context.stream, dtype, {values});
  }
  args.spectra = spectra;
  fft_conv_forward(context.stream, args);
  if (saved != nullptr) saved->put("spectra", std::move(spectra));
}

void fft_conv_backward_saved(const StrategyContext& context, FftConvBackward args, Saved& saved) {
  const Tensor spectra = saved.take("spectra");
  args.spectra = spectra;
  fft_conv_backward(context.stream, args);
}

}  // namespace causeway::long_convolution

#pragma once

#include <algorithm>

#include "kernels/fft_conv.hpp"
#include "kernels/fourier.hpp"
#include "kernels/modal_conv.hpp"
#include "kernels/reorder.hpp"
#include "parallel/layout/sharding.hpp"
#include "parallel/strategies/long_convolution/document_shard.hpp"

/// The filters of the strategy fft, with one interface:
///   transformed     whether load() returns twisted taps that still need the transform (else a spectrum)
///   rows(groups)    the filter of some groups of channels
///   load            the filter on this rank's shard, [shard.rows, groups, 2]
///   add_gradient    the adjoint of load: adds to the gradients of the parameters
namespace causeway::long_convolution::fft {

/// The filter of hyena_li on some groups of channels. Its twisted spectrum has a closed form.
struct ModalFilter {
  static constexpr bool transformed = false;
  TensorView residues, log_rates, d_residues, d_log_rates;

  ModalFilter rows(Range mine) const {
    return {rows_of(residues, mine), rows_of(log_rates, mine), rows_of(d_residues, mine), rows_of(d_log_rates, mine)};
  }
  std::int64_t groups() const { return residues.rows(); }
  Tensor load(const DocumentShard& shard, const Stream& stream) const {
    Tensor spectrum(stream, residues.dtype, {shard.rows, groups(), 2});
    modal_spectrum(stream, {.residues = residues,
                            .log_rates = log_rates,
                            .length = shard.length,
                            .first = shard.first_frequency(),
                            .step = shard.frequency_step(),
                            .y = spectrum});
    return spectrum;
  }
  void add_gradient(const DocumentShard& shard, TensorView d_spectrum, const Stream& stream) const {
    modal_spectrum_backward(stream, {.residues = residues,
                                     .log_rates = log_rates,
                                     .length = shard.length,
                                     .first = shard.first_frequency(),
                                     .step = shard.frequency_step(),
                                     .d_y = d_spectrum,
                                     .d_residues = d_residues,
                                     .d_log_rates = d_log_rates});
  }
};

/// The filter of long_conv: its taps, as many as the document has tokens, are distributed like the document's rows, and
/// transformed.
struct TapsFilter {
  static constexpr bool transformed = true;
  TensorView taps, d_taps;

  TapsFilter rows(Range mine) const { return {rows_of(taps, mine), rows_of(d_taps, mine)}; }
  std::int64_t groups() const { return taps.rows(); }
  Tensor load(const DocumentShard& shard, const Stream& stream) const {
    const Tensor lags = Tensor::zeros(stream, accumulator_of(taps.dtype), {shard.rows, groups()});
    const Range mine = lags_of(shard);
    transpose(stream, {.x = taps.slice_columns(mine.begin, mine.size()), .y = lags.view().slice_rows(0, mine.size())});
    return shard.twisted(lags, 1, stream);
  }
  void add_gradient(const DocumentShard& shard, TensorView d_spectrum, const Stream& stream) const {
    const Tensor d_lags = Tensor::zeros(stream, d_taps.dtype, {shard.rows, groups()});
    shard.add_untwisted(d_spectrum, d_lags, stream);
    const Range mine = lags_of(shard);
    transpose(stream, {.x = d_lags.view().slice_rows(0, mine.size()),
                       .accumulate = true,
                       .y = d_taps.slice_columns(mine.begin, mine.size())});
  }

 private:
  /// The lags of this rank that reach a token of the document.
  Range lags_of(const DocumentShard& shard) const {
    const std::int64_t used = std::min(taps.columns(), shard.document.tokens.size()),
                       begin = std::min(shard.first_position, used);
    return {begin, std::min(begin + shard.rows, used)};
  }
};

inline ModalFilter filter_of(const ModalConvForward& args) {
  return {.residues = args.residues, .log_rates = args.log_rates, .d_residues = {}, .d_log_rates = {}};
}
inline ModalFilter filter_of(const ModalConvBackward& args) {
  return {.residues = args.residues,
          .log_rates = args.log_rates,
          .d_residues = args.d_residues,
          .d_log_rates = args.d_log_rates};
}
inline TapsFilter filter_of(const FftConvForward& args) { return {.taps = args.taps, .d_taps = {}}; }
inline TapsFilter filter_of(const FftConvBackward& args) { return {.taps = args.taps, .d_taps = args.d_taps}; }

}  // namespace causeway::long_convolution::fft

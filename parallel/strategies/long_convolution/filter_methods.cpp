#include "parallel/strategies/long_convolution/filter_methods.hpp"

#include "kernels/core/integer.hpp"
#include "parallel/strategies/long_convolution/kept_spectra.hpp"

namespace causeway::long_convolution {
namespace {

/// The taps of the filter, as many as the longest document has tokens.
Tensor taps_of(const Stream& stream, TensorView residues, TensorView log_rates, std::int64_t length) {
  Tensor taps(stream, residues.dtype, {residues.rows(), length});
  modal_filter(stream, {.residues = residues, .log_rates = log_rates, .taps = taps});
  return taps;
}

}  // namespace

void filter_forward(const StrategyContext& context, Method method, std::int64_t longest, const ModalConvForward& args,
                    Saved* saved) {
  const Stream& stream = context.stream;
  if (method == Method::direct || method == Method::fft) {
    const Tensor taps = taps_of(stream, args.residues, args.log_rates, longest);
    if (method == Method::direct)
      blocked_conv_forward(stream, {.in = args.in, .halo = {}, .taps = taps, .y = args.y});
    else
      fft_conv_forward_saving(context, {.in = args.in, .taps = taps, .y = args.y}, saved);
    return;
  }
  const std::int64_t blocks = ceil_div(args.in.segments.tokens, modal_conv_block);
  Tensor states = saved == nullptr
                      ? Tensor()
                      : Tensor(stream, args.residues.dtype, {blocks, args.residues.rows(), args.residues.columns()});
  ModalConvForward local = args;
  local.states = states;
  modal_conv_forward(stream, local);
  if (saved != nullptr) saved->put("states", std::move(states));
}

void filter_backward(const StrategyContext& context, Method method, std::int64_t longest, const ModalConvBackward& args,
                     Saved& saved) {
  const Stream& stream = context.stream;
  if (method == Method::direct || method == Method::fft) {
    const Tensor taps = taps_of(stream, args.residues, args.log_rates, longest),
                 d_taps = Tensor::zeros(stream, args.residues.dtype, taps.view().shape);
    if (method == Method::direct)
      blocked_conv_backward(
          stream,
          {.in = args.in, .halo = {}, .taps = taps, .gradients = args.gradients, .d_halo = {}, .d_taps = d_taps});
    else
      fft_conv_backward_saved(context, {.in = args.in, .taps = taps, .gradients = args.gradients, .d_taps = d_taps},
                              saved);
    modal_filter_backward(stream, {.residues = args.residues,
                                   .log_rates = args.log_rates,
                                   .d_taps = d_taps,
                                   .d_residues = args.d_residues,
                                   .d_log_rates = args.d_log_rates});
    return;
  }
  const Tensor states = saved.take("states");
  ModalConvBackward local = args;
  local.states = states;
  modal_conv_backward(stream, local);
}

}  // namespace causeway::long_convolution

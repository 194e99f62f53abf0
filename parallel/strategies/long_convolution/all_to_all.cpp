/// all_to_all and all_to_all_pipelined of hyena_li and long_conv: sends every token of some channels to each rank,
/// which then has whole documents, evaluates the filters of these channels only, convolves, and sends the results back.
/// The gates are applied on the rank's own rows.

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/strategies/all_to_all_pipeline.hpp"
#include "parallel/strategies/gated_all_to_all.hpp"
#include "parallel/strategies/long_convolution/filter_methods.hpp"
#include "parallel/strategies/long_convolution/kept_spectra.hpp"

namespace causeway::long_convolution::all_to_all {

template <int slices>
void forward(const StrategyContext& context, ModalConvForward args, Saved* saved) {
  gated_all_to_all_forward(context, args.in, args.y, args.residues.rows(), slices, saved,
                           [&](Range groups, const GatedConvInputs& plain, TensorView c) {
                             filter_forward(context, context.method, context.sharding.whole_pack().longest_document,
                                            {.in = plain,
                                             .residues = rows_of(args.residues, groups),
                                             .log_rates = rows_of(args.log_rates, groups),
                                             .state_in = {},
                                             .y = c,
                                             .states = {}},
                                            saved == nullptr ? nullptr : &slice_scope(*saved, groups));
                           });
}

template <int slices>
void backward(const StrategyContext& context, ModalConvBackward args, Saved& saved) {
  gated_all_to_all_backward(context, args.in, args.gradients, args.residues.rows(), slices, saved,
                            [&](Range groups, const GatedConvInputs& plain, const GatedConvGradients& d_plain) {
                              filter_backward(context, context.method, context.sharding.whole_pack().longest_document,
                                              {.in = plain,
                                               .residues = rows_of(args.residues, groups),
                                               .log_rates = rows_of(args.log_rates, groups),
                                               .states = {},
                                               .adjoint_in = {},
                                               .gradients = d_plain,
                                               .d_residues = rows_of(args.d_residues, groups),
                                               .d_log_rates = rows_of(args.d_log_rates, groups)},
                                              slice_scope(saved, groups));
                            });
}

template <int slices>
void forward(const StrategyContext& context, FftConvForward args, Saved* saved) {
  gated_all_to_all_forward(context, args.in, args.y, args.taps.rows(), slices, saved,
                           [&](Range groups, const GatedConvInputs& plain, TensorView c) {
                             fft_conv_forward_saving(context, {.in = plain, .taps = rows_of(args.taps, groups), .y = c},
                                                     saved == nullptr ? nullptr : &slice_scope(*saved, groups));
                           });
}

template <int slices>
void backward(const StrategyContext& context, FftConvBackward args, Saved& saved) {
  gated_all_to_all_backward(context, args.in, args.gradients, args.taps.rows(), slices, saved,
                            [&](Range groups, const GatedConvInputs& plain, const GatedConvGradients& d_plain) {
                              fft_conv_backward_saved(context,
                                                      {.in = plain,
                                                       .taps = rows_of(args.taps, groups),
                                                       .gradients = d_plain,
                                                       .d_taps = rows_of(args.d_taps, groups)},
                                                      slice_scope(saved, groups));
                            });
}

template <int slices>
PassCosts cost(const Sharding& sharding, const ModalConvForward& args) {
  return gated_all_to_all_costs(sharding, args.in, args.residues.rows(), kernel_of(args), slices);
}
template <int slices>
PassCosts cost(const Sharding& sharding, const FftConvForward& args) {
  return gated_all_to_all_costs(
      sharding, args.in, args.taps.rows(),
      fft_kernel(sharding.whole_pack().longest_document, args.in.v.columns(), args.taps.rows()), slices);
}

template void forward<1>(const StrategyContext&, ModalConvForward, Saved*);
template void backward<1>(const StrategyContext&, ModalConvBackward, Saved&);
template PassCosts cost<1>(const Sharding&, const ModalConvForward&);
template void forward<1>(const StrategyContext&, FftConvForward, Saved*);
template void backward<1>(const StrategyContext&, FftConvBackward, Saved&);
template PassCosts cost<1>(const Sharding&, const FftConvForward&);
template void forward<pipeline_slices>(const StrategyContext&, ModalConvForward, Saved*);
template void backward<pipeline_slices>(const StrategyContext&, ModalConvBackward, Saved&);
template PassCosts cost<pipeline_slices>(const Sharding&, const ModalConvForward&);
template void forward<pipeline_slices>(const StrategyContext&, FftConvForward, Saved*);
template void backward<pipeline_slices>(const StrategyContext&, FftConvBackward, Saved&);
template PassCosts cost<pipeline_slices>(const Sharding&, const FftConvForward&);

}  // namespace causeway::long_convolution::all_to_all

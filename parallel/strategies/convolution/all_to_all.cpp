/// all_to_all and all_to_all_pipelined: sends every token of some channels to each rank, convolves the whole pack
/// there, and sends the results back. The gates are applied on the rank's own rows.

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/strategies/all_to_all_pipeline.hpp"
#include "parallel/strategies/convolution/short_filter.hpp"
#include "parallel/strategies/gated_all_to_all.hpp"

namespace causeway::convolution::all_to_all {

template <int slices>
void forward(const StrategyContext& context, CausalConvForward args, Saved* saved) {
  run_all_to_all(context,
                 {.channels = args.x.columns(),
                  .groups = args.x.columns(),
                  .in = {args.x},
                  .out = {args.y},
                  .run =
                      [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                        CausalConvForward local = args;
                        local.x = in[0];
                        local.weight = rows_of(args.weight, mine);
                        local.bias = rows_of(args.bias, mine);
                        local.segments = context.sharding.whole_pack().segments();
                        local.y = out[0];
                        causal_conv_forward(context.stream, local);
                        if (saved != nullptr) slice_scope(*saved, mine).put("x", std::move(in[0]));
                      }},
                 slices);
}

template <int slices>
void backward(const StrategyContext& context, CausalConvBackward args, Saved& saved) {
  args = with_product_added_to_d_y(context.stream, args);
  run_all_to_all(context,
                 {.channels = args.x.columns(),
                  .groups = args.x.columns(),
                  .in = {args.d_y},
                  .out = {args.d_x},
                  .run =
                      [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                        const Tensor x = slice_scope(saved, mine).take("x");
                        CausalConvBackward local = args;
                        local.x = x;
                        local.weight = rows_of(args.weight, mine);
                        local.bias = rows_of(args.bias, mine);
                        local.segments = context.sharding.whole_pack().segments();
                        local.d_y = in[0];
                        local.d_x = out[0];
                        local.d_weight = rows_of(args.d_weight, mine);
                        local.d_bias = rows_of(args.d_bias, mine);
                        causal_conv_backward(context.stream, local);
                      }},
                 slices);
}

template <int slices>
void forward(const StrategyContext& context, BlockedConvForward args, Saved* saved) {
  gated_all_to_all_forward(
      context, args.in, args.y, args.taps.rows(), slices, saved,
      [&](Range groups, const GatedConvInputs& plain, TensorView c) {
        blocked_conv_forward(
            context.stream, {.in = plain, .halo = {}, .taps = rows_of(args.taps, groups), .block = args.block, .y = c});
      });
}

template <int slices>
void backward(const StrategyContext& context, BlockedConvBackward args, Saved& saved) {
  gated_all_to_all_backward(context, args.in, args.gradients, args.taps.rows(), slices, saved,
                            [&](Range groups, const GatedConvInputs& plain, const GatedConvGradients& d_plain) {
                              blocked_conv_backward(context.stream, {.in = plain,
                                                                     .halo = {},
                                                                     .taps = rows_of(args.taps, groups),
                                                                     .block = args.block,
                                                                     .gradients = d_plain,
                                                                     .d_halo = {},
                                                                     .d_taps = rows_of(args.d_taps, groups)});
                            });
}

template <int slices>
PassCosts cost(const Sharding& sharding, const CausalConvForward& args) {
  return all_to_all_costs(sharding,
                          {.channels = args.x.columns(),
                           .groups = args.x.columns(),
                           .dtype = args.x.dtype,
                           .kernel = kernel_of(args),
                           .elements = static_cast<double>(sharding.layout().tokens())},
                          slices);
}
template <int slices>
PassCosts cost(const Sharding& sharding, const BlockedConvForward& args) {
  return gated_all_to_all_costs(sharding, args.in, args.taps.rows(), kernel_of(args), slices);
}

template void forward<1>(const StrategyContext&, CausalConvForward, Saved*);
template void backward<1>(const StrategyContext&, CausalConvBackward, Saved&);
template PassCosts cost<1>(const Sharding&, const CausalConvForward&);
template void forward<1>(const StrategyContext&, BlockedConvForward, Saved*);
template void backward<1>(const StrategyContext&, BlockedConvBackward, Saved&);
template PassCosts cost<1>(const Sharding&, const BlockedConvForward&);
template void forward<pipeline_slices>(const StrategyContext&, CausalConvForward, Saved*);
template void backward<pipeline_slices>(const StrategyContext&, CausalConvBackward, Saved&);
template PassCosts cost<pipeline_slices>(const Sharding&, const CausalConvForward&);
template void forward<pipeline_slices>(const StrategyContext&, BlockedConvForward, Saved*);
template void backward<pipeline_slices>(const StrategyContext&, BlockedConvBackward, Saved&);
template PassCosts cost<pipeline_slices>(const Sharding&, const BlockedConvForward&);

}  // namespace causeway::convolution::all_to_all

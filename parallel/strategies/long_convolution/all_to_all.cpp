/// all_to_all and all_to_all_pipelined of hyena_li and long_conv: every token of some channels to each rank, whole
/// documents there, their filters evaluated for those channels alone, results back. Gates stay outside.

#include "parallel/strategies/by_channels.hpp"
#include "parallel/strategies/gates.hpp"
#include "parallel/strategies/long_convolution/by_method.hpp"
#include "parallel/strategies/operations.hpp"

namespace causeway::long_convolution::all_to_all {
namespace {

TensorView rows_of(TensorView parameter, Range rows) {
  return parameter.present() ? parameter.slice_rows(rows.begin, rows.size()) : parameter;
}

GatedConvInputs ungated(const StrategyContext& context, TensorView x, TensorView skip, Range mine) {
  return {.q = {}, .k = {}, .v = x, .skip = rows_of(skip, mine), .segments = context.sharding.whole().segments()};
}
GatedConvGradients ungated(TensorView d_c, TensorView d_x, TensorView d_skip, Range mine) {
  return {.d_y = d_c, .d_q = {}, .d_k = {}, .d_v = d_x, .d_skip = rows_of(d_skip, mine)};
}

std::int64_t groups_of(const ModalConvForward& args) { return args.residues.rows(); }
std::int64_t groups_of(const ModalConvBackward& args) { return args.residues.rows(); }
std::int64_t groups_of(const FftConvForward& args) { return args.taps.rows(); }
std::int64_t groups_of(const FftConvBackward& args) { return args.taps.rows(); }

/// The operator on channels `mine` of the whole pack: x → c, and back.
void run(const StrategyContext& context, const ModalConvForward& args, Range mine, TensorView x, TensorView c,
         Saved* saved) {
  filter_forward(context.stream, context.method, longest_document(context.sharding.segments()),
                 {.in = ungated(context, x, args.in.skip, mine),
                  .residues = rows_of(args.residues, mine),
                  .log_rates = rows_of(args.log_rates, mine),
                  .state_in = {},
                  .y = c,
                  .states = {}},
                 saved);
}
void run(const StrategyContext& context, const ModalConvBackward& args, Range mine, TensorView x, TensorView d_c,
         TensorView d_x, Saved& saved) {
  filter_backward(context.stream, context.method, longest_document(context.sharding.segments()),
                  {.in = ungated(context, x, args.in.skip, mine),
                   .residues = rows_of(args.residues, mine),
                   .log_rates = rows_of(args.log_rates, mine),
                   .states = {},
                   .adjoint_in = {},
                   .gradients = ungated(d_c, d_x, args.gradients.d_skip, mine),
                   .d_residues = rows_of(args.d_residues, mine),
                   .d_log_rates = rows_of(args.d_log_rates, mine)},
                  saved);
}
Range groups_in(Range mine, std::int64_t channels, std::int64_t groups) {
  return {mine.begin * groups / channels, mine.end * groups / channels};
}
void run(const StrategyContext& context, const FftConvForward& args, Range mine, TensorView x, TensorView c, Saved*) {
  fft_conv_forward(context.stream, {.in = ungated(context, x, args.in.skip, mine),
                                    .taps = rows_of(args.taps, groups_in(mine, args.in.v.columns(), args.taps.rows())),
                                    .y = c});
}
void run(const StrategyContext& context, const FftConvBackward& args, Range mine, TensorView x, TensorView d_c,
         TensorView d_x, Saved&) {
  const Range groups = groups_in(mine, args.in.v.columns(), args.taps.rows());
  fft_conv_backward(context.stream, {.in = ungated(context, x, args.in.skip, mine),
                                     .taps = rows_of(args.taps, groups),
                                     .gradients = ungated(d_c, d_x, args.gradients.d_skip, mine),
                                     .d_taps = rows_of(args.d_taps, groups)});
}

template <class Forward>
void run_forward(const StrategyContext& context, const Forward& args, Saved* saved, int slices) {
  gate_columns_forward(context, args.in, args.y, saved, [&](TensorView x, TensorView c, const auto& gates) {
    by_channels(context,
                {.channels = args.in.v.columns(),
                 .groups = groups_of(args),
                 .in = {x},
                 .out = {c},
                 .run =
                     [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                       run(context, args, mine, in[0], out[0], saved);
                       if (saved != nullptr) saved->push(std::move(in[0]));
                     },
                 .prepare = gates.before,
                 .finish = gates.after},
                slices);
  });
}

template <class Backward>
void run_backward(const StrategyContext& context, const Backward& args, Saved& saved, int slices) {
  gate_columns_backward(context, args.in, args.gradients, saved, [&](TensorView d_c, TensorView d_x, const auto& gates) {
    by_channels(context,
                {.channels = args.in.v.columns(),
                 .groups = groups_of(args),
                 .in = {d_c},
                 .out = {d_x},
                 .run =
                     [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                       const Tensor x = saved.pop();
                       run(context, args, mine, x, in[0], out[0], saved);
                     },
                 .prepare = gates.before,
                 .finish = gates.after},
                slices, SliceOrder::backwards);
  });
}

double operations(const Sharding&, const ModalConvForward& args) {
  return modal_conv_operations(args.residues.columns());
}
double operations(const Sharding& sharding, const FftConvForward&) {
  return fft_conv_operations(longest_document(sharding.segments()));
}

template <class Forward>
Cost all_to_all_cost(const Sharding& sharding, const Forward& args, int slices) {
  return by_channels_cost(sharding,
                          {.channels = args.in.v.columns(), .groups = groups_of(args), .dtype = args.in.v.dtype},
                          slices, operations(sharding, args));
}

}  // namespace

void forward(const StrategyContext& context, ModalConvForward args, Saved* saved) {
  run_forward(context, args, saved, 1);
}
void forward(const StrategyContext& context, FftConvForward args, Saved* saved) {
  run_forward(context, args, saved, 1);
}
void backward(const StrategyContext& context, ModalConvBackward args, Saved& saved) {
  run_backward(context, args, saved, 1);
}
void backward(const StrategyContext& context, FftConvBackward args, Saved& saved) {
  run_backward(context, args, saved, 1);
}
Cost cost(const Sharding& sharding, const ModalConvForward& args) { return all_to_all_cost(sharding, args, 1); }
Cost cost(const Sharding& sharding, const FftConvForward& args) { return all_to_all_cost(sharding, args, 1); }

void forward_pipelined(const StrategyContext& context, ModalConvForward args, Saved* saved) {
  run_forward(context, args, saved, pipeline_slices);
}
void forward_pipelined(const StrategyContext& context, FftConvForward args, Saved* saved) {
  run_forward(context, args, saved, pipeline_slices);
}
void backward_pipelined(const StrategyContext& context, ModalConvBackward args, Saved& saved) {
  run_backward(context, args, saved, pipeline_slices);
}
void backward_pipelined(const StrategyContext& context, FftConvBackward args, Saved& saved) {
  run_backward(context, args, saved, pipeline_slices);
}
Cost cost_pipelined(const Sharding& sharding, const ModalConvForward& args) {
  return all_to_all_cost(sharding, args, pipeline_slices);
}
Cost cost_pipelined(const Sharding& sharding, const FftConvForward& args) {
  return all_to_all_cost(sharding, args, pipeline_slices);
}

}  // namespace causeway::long_convolution::all_to_all

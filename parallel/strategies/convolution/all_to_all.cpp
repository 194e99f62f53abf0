/// all_to_all and all_to_all_pipelined: every token of some channels to each rank, the convolution there on the whole
/// pack, its results back. Gates stay outside.

#include "parallel/strategies/by_channels.hpp"
#include "parallel/strategies/convolution/short_filter.hpp"
#include "parallel/strategies/gates.hpp"

namespace causeway::convolution::all_to_all {
namespace {

TensorView rows_of(TensorView parameter, Range rows) {
  return parameter.present() ? parameter.slice_rows(rows.begin, rows.size()) : parameter;
}

/// The groups that channels `mine` of D make up.
Range groups_of(Range mine, std::int64_t channels, std::int64_t groups) {
  return {mine.begin * groups / channels, mine.end * groups / channels};
}

void run_forward(const StrategyContext& context, const CausalConvForward& args, Saved* saved, int slices) {
  by_channels(context,
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
                     local.segments = context.sharding.whole().segments();
                     local.y = out[0];
                     causal_conv_forward(context.stream, local);
                     if (saved != nullptr) saved->push(std::move(in[0]));
                   }},
              slices);
}

void run_backward(const StrategyContext& context, const CausalConvBackward& args, Saved& saved, int slices) {
  by_channels(context,
              {.channels = args.x.columns(),
               .groups = args.x.columns(),
               .in = {args.d_y},
               .out = {args.d_x},
               .run =
                   [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                     const Tensor x = saved.pop();
                     CausalConvBackward local = args;
                     local.x = x;
                     local.weight = rows_of(args.weight, mine);
                     local.bias = rows_of(args.bias, mine);
                     local.segments = context.sharding.whole().segments();
                     local.d_y = in[0];
                     local.d_x = out[0];
                     local.d_weight = rows_of(args.d_weight, mine);
                     local.d_bias = rows_of(args.d_bias, mine);
                     causal_conv_backward(context.stream, local);
                   }},
              slices, SliceOrder::backwards);
}

void run_forward(const StrategyContext& context, const BlockedConvForward& args, Saved* saved, int slices) {
  const std::int64_t channels = args.in.v.columns(), groups = args.taps.rows();
  gate_columns_forward(context, args.in, args.y, saved, [&](TensorView x, TensorView c, const auto& gates) {
    by_channels(context,
                {.channels = channels,
                 .groups = groups,
                 .in = {x},
                 .out = {c},
                 .run =
                     [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                       blocked_conv_forward(context.stream,
                                            {.in = {.q = {},
                                                    .k = {},
                                                    .v = in[0],
                                                    .skip = rows_of(args.in.skip, mine),
                                                    .segments = context.sharding.whole().segments()},
                                             .taps = rows_of(args.taps, groups_of(mine, channels, groups)),
                                             .block = args.block,
                                             .y = out[0]});
                       if (saved != nullptr) saved->push(std::move(in[0]));
                     },
                 .prepare = gates.before,
                 .finish = gates.after},
                slices);
  });
}

void run_backward(const StrategyContext& context, const BlockedConvBackward& args, Saved& saved, int slices) {
  const std::int64_t channels = args.in.v.columns(), groups = args.taps.rows();
  gate_columns_backward(context, args.in, args.gradients, saved, [&](TensorView d_c, TensorView d_x, const auto& gates) {
    by_channels(context,
                {.channels = channels,
                 .groups = groups,
                 .in = {d_c},
                 .out = {d_x},
                 .run =
                     [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                       const Tensor x = saved.pop();
                       const Range of = groups_of(mine, channels, groups);
                       blocked_conv_backward(context.stream,
                                             {.in = {.q = {},
                                                     .k = {},
                                                     .v = x,
                                                     .skip = rows_of(args.in.skip, mine),
                                                     .segments = context.sharding.whole().segments()},
                                              .taps = rows_of(args.taps, of),
                                              .block = args.block,
                                              .gradients = {.d_y = in[0],
                                                            .d_q = {},
                                                            .d_k = {},
                                                            .d_v = out[0],
                                                            .d_skip = rows_of(args.gradients.d_skip, mine)},
                                              .d_taps = rows_of(args.d_taps, of)});
                     },
                 .prepare = gates.before,
                 .finish = gates.after},
                slices, SliceOrder::backwards);
  });
}

template <class Forward>
Cost all_to_all_cost(const Sharding& sharding, const Forward& args, std::int64_t groups, int slices) {
  const TensorView like = filtered(args).a;
  return by_channels_cost(sharding, {.channels = like.columns(), .groups = groups, .dtype = like.dtype}, slices,
                          operations_a_token(args));
}

}  // namespace

void forward(const StrategyContext& context, CausalConvForward args, Saved* saved) {
  run_forward(context, args, saved, 1);
}
void forward(const StrategyContext& context, BlockedConvForward args, Saved* saved) {
  run_forward(context, args, saved, 1);
}
void backward(const StrategyContext& context, CausalConvBackward args, Saved& saved) {
  run_backward(context, args, saved, 1);
}
void backward(const StrategyContext& context, BlockedConvBackward args, Saved& saved) {
  run_backward(context, args, saved, 1);
}
Cost cost(const Sharding& sharding, const CausalConvForward& args) {
  return all_to_all_cost(sharding, args, args.x.columns(), 1);
}
Cost cost(const Sharding& sharding, const BlockedConvForward& args) {
  return all_to_all_cost(sharding, args, args.taps.rows(), 1);
}

void forward_pipelined(const StrategyContext& context, CausalConvForward args, Saved* saved) {
  run_forward(context, args, saved, pipeline_slices);
}
void forward_pipelined(const StrategyContext& context, BlockedConvForward args, Saved* saved) {
  run_forward(context, args, saved, pipeline_slices);
}
void backward_pipelined(const StrategyContext& context, CausalConvBackward args, Saved& saved) {
  run_backward(context, args, saved, pipeline_slices);
}
void backward_pipelined(const StrategyContext& context, BlockedConvBackward args, Saved& saved) {
  run_backward(context, args, saved, pipeline_slices);
}
Cost cost_pipelined(const Sharding& sharding, const CausalConvForward& args) {
  return all_to_all_cost(sharding, args, args.x.columns(), pipeline_slices);
}
Cost cost_pipelined(const Sharding& sharding, const BlockedConvForward& args) {
  return all_to_all_cost(sharding, args, args.taps.rows(), pipeline_slices);
}

}  // namespace causeway::convolution::all_to_all

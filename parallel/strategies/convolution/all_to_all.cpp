/// all_to_all and all_to_all_pipelined: sends every token of some channels to each rank, convolves the whole pack
/// there, and sends the results back. The gates of hyena_se and hyena_mr are applied on the rank's own rows.

#include <array>

#include "kernels/reorder.hpp"
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

namespace {

/// The rows of a block's featurizer for channels `mine`: of q, k and v, which are side by side in the result.
std::array<RowRange, 3> featurizer_rows(std::int64_t channels, Range mine) {
  std::array<RowRange, 3> rows;
  for (std::int64_t part = 0; part < 3; ++part)
    rows[static_cast<std::size_t>(part)] = {
        .from = part * channels + mine.begin, .to = part * mine.size(), .count = mine.size()};
  return rows;
}

/// The block on channels `mine` of the whole pack; `featurizer` receives their rows of it.
HyenaBlockInputs on_channels(const StrategyContext& context, HyenaBlockInputs in, Range mine, TensorView q,
                             TensorView k, TensorView v, Tensor& featurizer) {
  const std::int64_t channels = in.q.columns();
  featurizer = Tensor(context.stream, in.featurizer.dtype, {3 * mine.size(), in.featurizer.columns()});
  copy_rows(context.stream, {.x = in.featurizer, .ranges = featurizer_rows(channels, mine), .y = featurizer});
  if (!in.modal()) in.taps = rows_of(in.taps, groups_of(mine, channels, in.taps.rows()));
  in.q = q, in.k = k, in.v = v;
  in.halo = {};
  in.featurizer = featurizer;
  in.skip = rows_of(in.skip, mine);
  in.residues = rows_of(in.residues, mine);
  in.log_rates = rows_of(in.log_rates, mine);
  in.segments = context.sharding.whole_pack().segments();
  return in;
}

std::int64_t groups_of(const HyenaBlockInputs& in) { return in.modal() ? in.q.columns() : in.taps.rows(); }

}  // namespace

/// Sends q, k and v themselves, so that the block is one operator there too: 3 tensors, and y back.
template <int slices>
void forward(const StrategyContext& context, HyenaBlockForward args, Saved* saved) {
  run_all_to_all(context,
                 {.channels = args.in.q.columns(),
                  .groups = groups_of(args.in),
                  .in = {args.in.q, args.in.k, args.in.v},
                  .out = {args.y},
                  .run =
                      [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                        Tensor featurizer;
                        HyenaBlockForward local = args;
                        local.in = on_channels(context, args.in, mine, in[0], in[1], in[2], featurizer);
                        local.y = out[0];
                        hyena_block_forward(context.stream, local);
                        if (saved == nullptr) return;
                        slice_scope(*saved, mine).put("q", std::move(in[0]));
                        slice_scope(*saved, mine).put("k", std::move(in[1]));
                        slice_scope(*saved, mine).put("v", std::move(in[2]));
                      }},
                 slices);
}

template <int slices>
void backward(const StrategyContext& context, HyenaBlockBackward args, Saved& saved) {
  const std::int64_t channels = args.in.q.columns();
  run_all_to_all(context,
                 {.channels = channels,
                  .groups = groups_of(args.in),
                  .in = {args.d_y},
                  .out = {args.d_q, args.d_k, args.d_v},
                  .run =
                      [&](Range mine, std::vector<Tensor>& in, std::span<const TensorView> out) {
                        Saved& kept = slice_scope(saved, mine);
                        const Tensor q = kept.take("q"), k = kept.take("k"), v = kept.take("v");
                        Tensor featurizer;
                        HyenaBlockBackward local = args;
                        local.in = on_channels(context, args.in, mine, q, k, v, featurizer);
                        const Tensor d_featurizer =
                            Tensor::zeros(context.stream, args.d_featurizer.dtype, featurizer.view().shape);
                        local.d_y = in[0];
                        local.d_q = out[0], local.d_k = out[1], local.d_v = out[2];
                        local.d_featurizer = d_featurizer;
                        local.d_skip = rows_of(args.d_skip, mine);
                        if (!args.in.modal())
                          local.d_taps = rows_of(args.d_taps, groups_of(mine, channels, args.in.taps.rows()));
                        local.d_residues = rows_of(args.d_residues, mine);
                        local.d_log_rates = rows_of(args.d_log_rates, mine);
                        hyena_block_backward(context.stream, local);
                        std::array<RowRange, 3> back = featurizer_rows(channels, mine);
                        for (RowRange& rows : back) std::swap(rows.from, rows.to);
                        copy_rows(context.stream,
                                  {.x = d_featurizer, .ranges = back, .accumulate = true, .y = args.d_featurizer});
                      }},
                 slices);
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
template <int slices>
PassCosts cost(const Sharding& sharding, const HyenaBlockForward& args) {
  return all_to_all_costs(sharding,
                          {.channels = args.in.q.columns(),
                           .groups = groups_of(args.in),
                           .dtype = args.in.q.dtype,
                           .kernel = kernel_of(args),
                           .elements = static_cast<double>(sharding.layout().tokens()),
                           .in = 3,
                           .out = 1,
                           .back_in = 1,
                           .back_out = 3},
                          slices);
}

template void forward<1>(const StrategyContext&, CausalConvForward, Saved*);
template void backward<1>(const StrategyContext&, CausalConvBackward, Saved&);
template PassCosts cost<1>(const Sharding&, const CausalConvForward&);
template void forward<1>(const StrategyContext&, BlockedConvForward, Saved*);
template void backward<1>(const StrategyContext&, BlockedConvBackward, Saved&);
template PassCosts cost<1>(const Sharding&, const BlockedConvForward&);
template void forward<1>(const StrategyContext&, HyenaBlockForward, Saved*);
template void backward<1>(const StrategyContext&, HyenaBlockBackward, Saved&);
template PassCosts cost<1>(const Sharding&, const HyenaBlockForward&);
template void forward<pipeline_slices>(const StrategyContext&, CausalConvForward, Saved*);
template void backward<pipeline_slices>(const StrategyContext&, CausalConvBackward, Saved&);
template PassCosts cost<pipeline_slices>(const Sharding&, const CausalConvForward&);
template void forward<pipeline_slices>(const StrategyContext&, BlockedConvForward, Saved*);
template void backward<pipeline_slices>(const StrategyContext&, BlockedConvBackward, Saved&);
template PassCosts cost<pipeline_slices>(const Sharding&, const BlockedConvForward&);
template void forward<pipeline_slices>(const StrategyContext&, HyenaBlockForward, Saved*);
template void backward<pipeline_slices>(const StrategyContext&, HyenaBlockBackward, Saved&);
template PassCosts cost<pipeline_slices>(const Sharding&, const HyenaBlockForward&);

}  // namespace causeway::convolution::all_to_all

#include "parallel/strategies/gated_all_to_all.hpp"

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/strategies/all_to_all_pipeline.hpp"
#include "parallel/strategies/gates.hpp"

namespace causeway {
namespace {

/// The inputs without gates on channels `mine` of the whole pack.
GatedConvInputs plain_inputs(const StrategyContext& context, const GatedConvInputs& in, Range mine, TensorView x) {
  return {
      .q = {}, .k = {}, .v = x, .skip = rows_of(in.skip, mine), .segments = context.sharding.whole_pack().segments()};
}

}  // namespace

void gated_all_to_all_forward(
    const StrategyContext& context, const GatedConvInputs& in, TensorView y, std::int64_t groups, int slices,
    Saved* saved, const std::function<void(Range groups, const GatedConvInputs& plain, TensorView c)>& run) {
  const std::int64_t channels = in.v.columns();
  gate_columns_forward(context, in, y, saved, [&](TensorView x, TensorView c, const ColumnGates& gates) {
    run_all_to_all(context,
                   {.channels = channels,
                    .groups = groups,
                    .in = {x},
                    .out = {c},
                    .run =
                        [&](Range mine, std::vector<Tensor>& moved, std::span<const TensorView> out) {
                          run(groups_of(mine, channels, groups), plain_inputs(context, in, mine, moved[0]), out[0]);
                          if (saved != nullptr) slice_scope(*saved, mine).put("x", std::move(moved[0]));
                        },
                    .prepare = gates.before,
                    .finish = gates.after},
                   slices);
  });
}

void gated_all_to_all_backward(
    const StrategyContext& context, const GatedConvInputs& in, const GatedConvGradients& gradients, std::int64_t groups,
    int slices, Saved& saved,
    const std::function<void(Range groups, const GatedConvInputs& plain, const GatedConvGradients& d_plain)>& run) {
  const std::int64_t channels = in.v.columns();
  gate_columns_backward(context, in, gradients, saved, [&](TensorView d_c, TensorView d_x, const ColumnGates& gates) {
    run_all_to_all(
        context,
        {.channels = channels,
         .groups = groups,
         .in = {d_c},
         .out = {d_x},
         .run =
             [&](Range mine, std::vector<Tensor>& moved, std::span<const TensorView> out) {
               const Tensor x = slice_scope(saved, mine).take("x");
               run(groups_of(mine, channels, groups), plain_inputs(context, in, mine, x),
                   {.d_y = moved[0], .d_q = {}, .d_k = {}, .d_v = out[0], .d_skip = rows_of(gradients.d_skip, mine)});
             },
         .prepare = gates.before,
         .finish = gates.after},
        slices);
  });
}

PassCosts gated_all_to_all_costs(const Sharding& sharding, const GatedConvInputs& in, std::int64_t groups,
                                 const TimedKernel& kernel, int slices) {
  const int gates = (in.q.present() ? 1 : 0) + (in.k.present() ? 1 : 0);
  return all_to_all_costs(sharding,
                          {.channels = in.v.columns(),
                           .groups = groups,
                           .dtype = in.v.dtype,
                           .kernel = ungated(kernel),
                           .elements = static_cast<double>(sharding.layout().tokens()),
                           .gates = 3 * gates,        // a product of two tensors
                           .back_gates = 6 * gates},  // two of them
                          slices);
}

}  // namespace causeway

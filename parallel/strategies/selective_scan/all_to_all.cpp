/// all_to_all: u and delta go from tokens to channels, B and C are gathered, the scan runs on the whole pack, y goes
/// back to tokens. The z gate is applied on the rank's own rows. Backward, the gradients of B and C are summed over the
/// ranks.

#include "kernels/activation.hpp"
#include "kernels/core/integer.hpp"
#include "parallel/cost/operator_kernels.hpp"
#include "parallel/exchange/reshard.hpp"
#include "parallel/strategies/all_to_all_pipeline.hpp"

namespace causeway::selective_scan::all_to_all {
namespace {

/// B and C of all tokens.
struct Gathered {
  Tensor B, C;
};

Gathered allocate_gathered(const StrategyContext& context, const SelectiveScanInputs& in) {
  const Shape shape{context.sharding.layout().tokens(), in.B.columns()};
  return {Tensor(context.stream, in.B.dtype, shape), Tensor(context.stream, in.C.dtype, shape)};
}

/// In which the gradients of B and C are summed.
int pieces_of(const ShardLayout& layout, TensorView B) {
  return pieces_of_long_messages(layout, B.columns() * size_of(B.dtype));
}

/// The scan's inputs on channels `mine` of the whole pack, without the gate.
SelectiveScanInputs on_channels(const StrategyContext& context, const SelectiveScanInputs& in, Range mine, TensorView u,
                                TensorView delta, const Gathered& gathered) {
  return {.u = u,
          .delta = delta,
          .z = {},
          .A = rows_of(in.A, mine),
          .B = gathered.B,
          .C = gathered.C,
          .D = rows_of(in.D, mine),
          .delta_bias = rows_of(in.delta_bias, mine),
          .delta_softplus = in.delta_softplus,
          .segments = context.sharding.whole_pack().segments()};
}

}  // namespace

void forward(const StrategyContext& context, SelectiveScanForward args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  const SelectiveScanInputs& in = args.in;
  Gathered gathered = allocate_gathered(context, in);
  Pending gathering =
      start_gather_tokens(sharding, std::vector<LocalAndWhole>{{in.B, gathered.B}, {in.C, gathered.C}}, ranks, stream);
  Tensor ungated = in.z.present() ? Tensor(stream, args.y.dtype, {args.y.rows(), args.y.columns()}) : Tensor();
  Tensor u, delta, states;
  run_all_to_all(context,
                 {.channels = in.A.rows(),
                  .groups = in.A.rows(),
                  .in = {in.u, in.delta},
                  .out = {ungated.present() ? ungated.view() : args.y},
                  .run =
                      [&](Range mine, std::vector<Tensor>& moved, std::span<const TensorView> out) {
                        gathering.wait();
                        const std::int64_t blocks = ceil_div(sharding.layout().tokens(), selective_scan_block);
                        if (saved != nullptr)
                          states = Tensor(stream, in.A.dtype, {blocks, mine.size(), in.A.columns()});
                        selective_scan_forward(stream,
                                               {.in = on_channels(context, in, mine, moved[0], moved[1], gathered),
                                                .state_in = {},
                                                .y = out[0],
                                                .states = states});
                        u = std::move(moved[0]);
                        delta = std::move(moved[1]);
                      }},
                 1);
  gathering.wait();
  if (ungated.present())
    gated_activation_forward(stream, {.a = in.z, .b = ungated, .activation = Activation::silu, .y = args.y});
  if (saved == nullptr) return;
  saved->put("B", std::move(gathered.B));
  saved->put("C", std::move(gathered.C));
  saved->put("u", std::move(u));
  saved->put("delta", std::move(delta));
  saved->put("states", std::move(states));
  saved->put("ungated", std::move(ungated));
}

void backward(const StrategyContext& context, SelectiveScanBackward args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  const SelectiveScanInputs& in = args.in;
  Gathered gathered{saved.take("B"), saved.take("C")};
  const Gathered d_gathered = allocate_gathered(context, in);
  Tensor u = saved.take("u"), delta = saved.take("delta"), states = saved.take("states"),
         ungated = saved.take("ungated");
  Tensor d_ungated;
  if (in.z.present()) {
    d_ungated = Tensor(stream, args.d_y.dtype, {args.d_y.rows(), args.d_y.columns()});
    gated_activation_backward(
        stream,
        {.a = in.z, .b = ungated, .activation = Activation::silu, .d_y = args.d_y, .d_a = args.d_z, .d_b = d_ungated});
    ungated = {};
  }
  fill(stream, {.value = 0, .y = d_gathered.B});
  fill(stream, {.value = 0, .y = d_gathered.C});
  run_all_to_all(context,
                 {.channels = in.A.rows(),
                  .groups = in.A.rows(),
                  .in = {d_ungated.present() ? d_ungated.view() : args.d_y},
                  .out = {args.d_u, args.d_delta},
                  .run =
                      [&](Range mine, std::vector<Tensor>& moved, std::span<const TensorView> out) {
                        selective_scan_backward(stream, {.in = on_channels(context, in, mine, u, delta, gathered),
                                                         .states = states,
                                                         .adjoint_in = {},
                                                         .d_y = moved[0],
                                                         .d_u = out[0],
                                                         .d_delta = out[1],
                                                         .d_B = d_gathered.B,
                                                         .d_C = d_gathered.C,
                                                         .d_z = {},
                                                         .d_A = rows_of(args.d_A, mine),
                                                         .d_D = rows_of(args.d_D, mine),
                                                         .d_delta_bias = rows_of(args.d_delta_bias, mine)});
                        for (Tensor* done : {&u, &delta, &states}) *done = {};
                      }},
                 1);
  for (Tensor* done : {&gathered.B, &gathered.C, &d_ungated})
    *done = {};  // free memory before reduce_tokens allocates its sums
  reduce_tokens(sharding, std::vector<LocalAndWhole>{{args.d_B, d_gathered.B}, {args.d_C, d_gathered.C}}, ranks, stream,
                pieces_of(sharding.layout(), in.B));
}

PassCosts cost(const Sharding& sharding, const SelectiveScanForward& args) {
  const std::int64_t channels = args.in.A.rows(), gathered = 2;  // B and C
  const int pieces = pieces_of(sharding.layout(), args.in.B);
  const bool gate = args.in.z.present();
  PassCosts costs = all_to_all_costs(sharding,
                                     {.channels = channels,
                                      .groups = channels,
                                      .dtype = args.in.u.dtype,
                                      .kernel = ungated(kernel_of(args)),
                                      .elements = static_cast<double>(sharding.layout().tokens()),
                                      .in = 2,
                                      .out = 1,
                                      .back_in = 1,
                                      .back_out = 2,
                                      .gates = gate ? 3 : 0,
                                      .back_gates = gate ? 5 : 0,
                                      .gathered = gathered * args.in.A.columns()},
                                     1);
  if (sharding.layout().ranks() == 1) return costs;
  const ShardLayout& layout = sharding.layout();
  const std::int64_t of_a_tensor = (layout.ranks() - 1) * (layout.chunk_count() / layout.ranks());
  for (Cost* cost : {&costs.forward, &costs.repeated}) {
    cost->rounds += 1;
    cost->messages += gathered * of_a_tensor;
    cost->busiest_messages += gathered * of_a_tensor;
  }
  costs.backward.rounds += gathered * pieces;
  costs.backward.messages += gathered * pieces * of_a_tensor;
  costs.backward.busiest_messages += gathered * pieces * of_a_tensor;
  return costs;
}

}  // namespace causeway::selective_scan::all_to_all

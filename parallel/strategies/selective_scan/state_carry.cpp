/// state_carry of selective_scan: sends the state after a chunk's last token to the right; backward, the adjoint before
/// its first token to the left. In a relay the scan itself writes them. A summary also has ΣΔ, the sum of the chunk's
/// step sizes: exp(A·ΣΔ) is the decay of an incoming state over the chunk.

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/strategies/recurrence.hpp"

namespace causeway::selective_scan::state_carry {
namespace {

SelectiveScanInputs inputs_of(SelectiveScanInputs in, const Chunk& chunk) {
  for (TensorView SelectiveScanInputs::*rows :
       {&SelectiveScanInputs::u, &SelectiveScanInputs::delta, &SelectiveScanInputs::z, &SelectiveScanInputs::B,
        &SelectiveScanInputs::C})
    in.*rows = chunk.rows(in.*rows);
  in.segments = chunk.segments();
  return in;
}

/// A summary is a row of D·N + D elements: the states (or adjoints) of all channels, then ΣΔ of all channels. A carry
/// has only the states; an absent one stays absent.
TensorView state(TensorView row, TensorView A) { return row.present() ? view_of(row.data, row.dtype, A.shape) : row; }
TensorView sum_delta(TensorView row, TensorView A) {
  return view_of(static_cast<std::byte*>(row.data) + A.size() * size_of(row.dtype), row.dtype, {A.rows()});
}

Recurrence recurrence(const StrategyContext& context, Direction direction, TensorView A) {
  return {.direction = direction,
          .dtype = A.dtype,
          .state_size = A.size(),
          .summary_size = A.size() + A.rows(),
          .summarise = {},
          .fold =
              [&context, A](TensorView summary, TensorView carry, std::int64_t) {
                selective_scan_fold(context.stream, {.A = A,
                                                     .summary_state = state(summary, A),
                                                     .sum_delta = sum_delta(summary, A),
                                                     .carry = state(carry, A)});
              },
          .run = {}};
}

}  // namespace

void forward(const StrategyContext& context, SelectiveScanForward args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  const Stream& stream = context.stream;
  const TensorView A = args.in.A;
  Tensor states = saved == nullptr
                      ? Tensor()
                      : Tensor(stream, A.dtype, {state_rows(sharding, selective_scan_block), A.rows(), A.columns()});
  Recurrence scan = recurrence(context, Direction::rightwards, A);
  scan.summarise = [&](const Chunk& chunk, TensorView summary) {
    selective_scan_summary(
        stream, {.in = inputs_of(args.in, chunk), .state = state(summary, A), .sum_delta = sum_delta(summary, A)});
  };
  scan.run = [&](const Chunk& chunk, TensorView carry, TensorView leaving) {
    selective_scan_forward(stream, {.in = inputs_of(args.in, chunk),
                                    .state_in = state(carry, A),
                                    .y = chunk.rows(args.y),
                                    .states = states_of_chunk(sharding, chunk, states, selective_scan_block),
                                    .state_out = state(leaving, A)});
  };
  run_with_carry(context, scan);
  if (saved != nullptr) saved->put("states", std::move(states));
}

void backward(const StrategyContext& context, SelectiveScanBackward args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  const Stream& stream = context.stream;
  const TensorView A = args.in.A;
  const Tensor states = saved.take("states");
  Recurrence scan = recurrence(context, Direction::leftwards, A);
  scan.summarise = [&](const Chunk& chunk, TensorView summary) {
    selective_scan_adjoint_summary(stream, {.in = inputs_of(args.in, chunk),
                                            .d_y = chunk.rows(args.d_y),
                                            .adjoint = state(summary, A),
                                            .sum_delta = sum_delta(summary, A)});
  };
  scan.run = [&](const Chunk& chunk, TensorView carry, TensorView leaving) {
    SelectiveScanBackward local = args;
    local.in = inputs_of(args.in, chunk);
    local.states = states_of_chunk(sharding, chunk, states, selective_scan_block);
    local.adjoint_in = state(carry, A);
    local.adjoint_out = state(leaving, A);
    for (TensorView SelectiveScanBackward::*rows :
         {&SelectiveScanBackward::d_y, &SelectiveScanBackward::d_u, &SelectiveScanBackward::d_delta,
          &SelectiveScanBackward::d_z, &SelectiveScanBackward::d_B, &SelectiveScanBackward::d_C})
      local.*rows = chunk.rows(args.*rows);
    selective_scan_backward(stream, local);
  };
  run_with_carry(context, scan);
}

PassCosts cost(const Sharding& sharding, const SelectiveScanForward& args) {
  const std::int64_t channels = args.in.A.rows(), states = args.in.A.columns(), size = size_of(args.in.A.dtype);
  return carry_costs(sharding, {.kernel = kernel_of(args),
                                .summary = summary_of(args),
                                .channels = channels,
                                .state_bytes = states * channels * size,
                                .summary_bytes = (states + 1) * channels * size});
}

}  // namespace causeway::selective_scan::state_carry

/// state_carry of hyena_li: sends the M states of each channel after a chunk's last token to the right; backward, the
/// adjoint states before its first token to the left. 4·M·D bytes per edge, independent of the context length.

#include "parallel/cost/operator_kernels.hpp"
#include "parallel/strategies/gates.hpp"
#include "parallel/strategies/recurrence.hpp"

namespace causeway::long_convolution::state_carry {
namespace {

/// A summary or carry, a flat row, as [D, M] states or adjoints; an absent one stays absent.
TensorView state(TensorView row, TensorView log_rates) { return row.present() ? row.reshaped(log_rates.shape) : row; }

Recurrence recurrence(const StrategyContext& context, Direction direction, TensorView log_rates) {
  return {.direction = direction,
          .dtype = log_rates.dtype,
          .state_size = log_rates.size(),
          .summary_size = log_rates.size(),
          .summarise = {},
          .fold =
              [&context, log_rates](TensorView summary, TensorView carry, std::int64_t tokens) {
                modal_conv_fold(context.stream, {.log_rates = log_rates,
                                                 .summary_state = state(summary, log_rates),
                                                 .tokens = tokens,
                                                 .carry = state(carry, log_rates)});
              },
          .run = {}};
}

}  // namespace

void forward(const StrategyContext& context, ModalConvForward args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  const Stream& stream = context.stream;
  const TensorView rates = args.log_rates;
  Tensor states = saved == nullptr ? Tensor()
                                   : Tensor(stream, rates.dtype,
                                            {state_rows(sharding, modal_conv_block), rates.rows(), rates.columns()});
  Recurrence modes = recurrence(context, Direction::rightwards, rates);
  modes.summarise = [&](const Chunk& chunk, TensorView summary) {
    modal_conv_summary(stream, {.in = on_chunk(args.in, chunk), .log_rates = rates, .state = state(summary, rates)});
  };
  modes.run = [&](const Chunk& chunk, TensorView carry, TensorView leaving) {
    modal_conv_forward(stream, {.in = on_chunk(args.in, chunk),
                                .residues = args.residues,
                                .log_rates = rates,
                                .state_in = state(carry, rates),
                                .y = chunk.rows(args.y),
                                .states = states_of_chunk(sharding, chunk, states, modal_conv_block),
                                .state_out = state(leaving, rates)});
  };
  run_with_carry(context, modes);
  if (saved != nullptr) saved->put("states", std::move(states));
}

void backward(const StrategyContext& context, ModalConvBackward args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  const Stream& stream = context.stream;
  const TensorView rates = args.log_rates;
  const Tensor states = saved.take("states");
  Recurrence modes = recurrence(context, Direction::leftwards, rates);
  modes.summarise = [&](const Chunk& chunk, TensorView summary) {
    modal_conv_adjoint_summary(stream, {.in = on_chunk(args.in, chunk),
                                        .residues = args.residues,
                                        .log_rates = rates,
                                        .d_y = chunk.rows(args.gradients.d_y),
                                        .adjoint = state(summary, rates)});
  };
  modes.run = [&](const Chunk& chunk, TensorView carry, TensorView leaving) {
    ModalConvBackward local = args;
    local.in = on_chunk(args.in, chunk);
    local.gradients = on_chunk(args.gradients, chunk);
    local.states = states_of_chunk(sharding, chunk, states, modal_conv_block);
    local.adjoint_in = state(carry, rates);
    local.adjoint_out = state(leaving, rates);
    modal_conv_backward(stream, local);
  };
  run_with_carry(context, modes);
}

PassCosts cost(const Sharding& sharding, const ModalConvForward& args) {
  const std::int64_t state = args.residues.size() * size_of(args.residues.dtype);
  return carry_costs(sharding, {.kernel = kernel_of(args),
                                .summary = summary_of(args),
                                .channels = args.residues.rows(),
                                .state_bytes = state,
                                .summary_bytes = state});
}

}  // namespace causeway::long_convolution::state_carry

#include "parallel/strategies/convolution/modal_block.hpp"

#include <algorithm>

#include "parallel/strategies/convolution/short_filter.hpp"
#include "parallel/strategies/recurrence.hpp"

namespace causeway::convolution::modal_block {
namespace {

/// A summary or carry, a flat row, as [D, M] states or adjoints; an absent one stays absent.
TensorView state(TensorView row, const HyenaBlockInputs& in) {
  return row.present() ? row.reshaped(in.log_rates.shape) : row;
}

/// A chunk's place among this rank's chunks.
std::int64_t place_of(const Sharding& sharding, const Chunk& chunk) {
  return std::ranges::find(sharding.chunks(), chunk.index, &Chunk::index) - sharding.chunks().begin();
}

/// The arguments for the rows of one chunk, with its halo.
HyenaBlockInputs with_halo(const Sharding& sharding, const HyenaBlockInputs& in, const Chunk& chunk,
                           const Tensor& halos) {
  HyenaBlockInputs local = on_chunk(in, chunk);
  if (halos.present())
    local.halo = halo_of_chunk(halos, static_cast<std::size_t>(place_of(sharding, chunk)), block_reach(in));
  return local;
}

Recurrence recurrence(const StrategyContext& context, Direction direction, const HyenaBlockInputs& in) {
  return {.direction = direction,
          .dtype = in.log_rates.dtype,
          .state_size = in.log_rates.size(),
          .summary_size = in.log_rates.size(),
          .summarise = {},
          .fold =
              [&context, &in](TensorView summary, TensorView carry, std::int64_t tokens) {
                modal_conv_fold(context.stream, {.log_rates = in.log_rates,
                                                 .summary_state = state(summary, in),
                                                 .tokens = tokens,
                                                 .carry = state(carry, in)});
              },
          .run = {}};
}

/// Whether a state enters one of this rank's chunks.
bool receives_states(const Sharding& sharding) {
  return std::ranges::any_of(sharding.chunks(), [&](const Chunk& chunk) {
    return sharding.carry_plan().chunks[static_cast<std::size_t>(chunk.index)].from_left;
  });
}

}  // namespace

void forward(const StrategyContext& context, HyenaBlockForward args, Saved* saved) {
  const Sharding& sharding = context.sharding;
  const Stream& stream = context.stream;
  const HyenaBlockInputs& in = args.in;
  Tensor halos = receive_halos(context, filter_input(args), block_reach(in));
  // Backward needs the states that entered the chunks, to compute all others again.
  Tensor entered = saved != nullptr && receives_states(sharding)
                       ? Tensor(stream, in.log_rates.dtype, {std::ssize(sharding.chunks()), in.log_rates.size()})
                       : Tensor();
  Recurrence modes = recurrence(context, Direction::rightwards, in);
  modes.summarise = [&](const Chunk& chunk, TensorView summary) {
    hyena_block_summary(stream, {.in = with_halo(sharding, in, chunk, halos), .state = state(summary, in)});
  };
  modes.run = [&](const Chunk& chunk, TensorView carry, TensorView leaving) {
    if (entered.present() && carry.present())
      scale(stream, {.x = carry, .y = entered.view().slice_rows(place_of(sharding, chunk), 1)});
    hyena_block_forward(stream, {.in = with_halo(sharding, in, chunk, halos),
                                 .state_in = state(carry, in),
                                 .y = chunk.rows(args.y),
                                 .state_out = state(leaving, in)});
  };
  run_with_carry(context, modes);
  if (saved == nullptr) return;
  saved->put("halos", std::move(halos));
  saved->put("entered", std::move(entered));
}

void backward(const StrategyContext& context, HyenaBlockBackward args, Saved& saved) {
  const Sharding& sharding = context.sharding;
  Communicator& ranks = context.ranks;
  const Stream& stream = context.stream;
  const HyenaBlockInputs& in = args.in;
  const std::int64_t reach = block_reach(in);
  const HaloPlan& plan = sharding.halo_plan(reach);
  const Tensor halos = saved.take("halos"), entered = saved.take("entered"),
               d_halos = halos.present() ? allocate_halos(context, filter_input(args), reach) : Tensor();
  Recurrence modes = recurrence(context, Direction::leftwards, in);
  modes.summarise = [&](const Chunk& chunk, TensorView summary) {
    hyena_block_adjoint_summary(
        stream,
        {.in = with_halo(sharding, in, chunk, halos), .d_y = chunk.rows(args.d_y), .adjoint = state(summary, in)});
  };
  modes.run = [&](const Chunk& chunk, TensorView carry, TensorView leaving) {
    const std::int64_t place = place_of(sharding, chunk);
    HyenaBlockBackward local = on_chunk(args, chunk);
    local.in = with_halo(sharding, in, chunk, halos);
    if (d_halos.present()) local.d_halo = halo_of_chunk(d_halos, static_cast<std::size_t>(place), reach);
    if (sharding.carry_plan().chunks[static_cast<std::size_t>(chunk.index)].from_left)
      local.state_in = state(entered.view().slice_rows(place, 1), in);
    local.adjoint_in = state(carry, in);
    local.adjoint_out = state(leaving, in);
    hyena_block_backward(stream, local);
  };
  run_with_carry(context, modes);
  if (d_halos.present())
    start_halo_adjoint(plan, d_halos, filter_input(args), filter_input_gradient(args), ranks, stream).wait();
}

PassCosts cost(const Sharding& sharding, const HyenaBlockForward& args) {
  const std::int64_t state_bytes = args.in.residues.size() * size_of(args.in.residues.dtype);
  PassCosts costs = carry_costs(sharding, {.kernel = kernel_of(args),
                                           .summary = summary_of(args),
                                           .channels = args.in.residues.rows(),
                                           .state_bytes = state_bytes,
                                           .summary_bytes = state_bytes});
  for (Cost* pass : {&costs.forward, &costs.backward})
    add_halo(*pass, sharding.layout(), filter_input(args), block_reach(args.in));
  return costs;
}

}  // namespace causeway::convolution::modal_block

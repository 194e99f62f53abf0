/// hyena_li by state_carry: a chunk hands the M states a channel after its last token to the right, backward the
/// adjoint before its first token to the left: 4·M·D bytes over an edge, however long the context. A summary pass from
/// a zero start finds what a chunk contributes, carry() what it takes in; then the kernel runs from there. A chunk
/// whose neighbour needs nothing is not summarised.

#include "parallel/strategies/operations.hpp"
#include "parallel/strategy.hpp"

namespace causeway::long_convolution::state_carry {
namespace {

/// A row a chunk: the states, or adjoints, of every channel.
struct Summaries {
  Summaries(const Sharding& sharding, TensorView log_rates, const Stream& stream)
      : shape(log_rates.shape),
        rows(Tensor::zeros(stream, log_rates.dtype, {std::ssize(sharding.chunks()), shape.size()})),
        carries(stream, log_rates.dtype, {std::ssize(sharding.chunks()), shape.size()}) {}

  TensorView state(TensorView row) const { return row.reshaped(shape); }
  TensorView row(std::size_t chunk) const { return state(rows.view().slice_rows(static_cast<std::int64_t>(chunk), 1)); }
  TensorView carry(std::size_t chunk) const {
    return state(carries.view().slice_rows(static_cast<std::int64_t>(chunk), 1));
  }

  Shape shape;  // [D, M]
  Tensor rows, carries;
};

GatedConvInputs inputs_of(GatedConvInputs in, const Chunk& chunk) {
  for (TensorView GatedConvInputs::*rows : {&GatedConvInputs::q, &GatedConvInputs::k, &GatedConvInputs::v})
    in.*rows = chunk.rows(in.*rows);
  in.segments = chunk.segments();
  return in;
}

const CarryPlan::Edge& edge_of(const Sharding& sharding, const Chunk& chunk) {
  return sharding.carry().chunks[static_cast<std::size_t>(chunk.number)];
}

void exchange(const StrategyContext& context, Direction direction, TensorView log_rates, const Summaries& summaries) {
  carry({.sharding = context.sharding,
         .direction = direction,
         .schedule = context.schedule,
         .summaries = summaries.rows,
         .carries = summaries.carries,
         .fold =
             [&](TensorView summary, TensorView carry, std::int64_t tokens) {
               modal_conv_fold(context.stream, {.log_rates = log_rates,
                                                .summary_state = summaries.state(summary),
                                                .tokens = tokens,
                                                .carry = summaries.state(carry)});
             }},
        context.ranks, context.stream);
}

std::int64_t blocks_of(const Chunk& chunk) { return (chunk.tokens.size() + modal_conv_block - 1) / modal_conv_block; }

}  // namespace

void forward(const StrategyContext& context, ModalConvForward args, Saved* saved) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const Summaries summaries(sharding, args.log_rates, stream);
  std::int64_t blocks = 0;
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const TensorView row = summaries.row(i++);
    blocks += blocks_of(chunk);
    if (edge_of(sharding, chunk).to_right && chunk.tokens.size() > 0)
      modal_conv_summary(stream, {.in = inputs_of(args.in, chunk), .log_rates = args.log_rates, .state = row});
  }
  exchange(context, Direction::rightwards, args.log_rates, summaries);

  Tensor states = saved == nullptr
                      ? Tensor()
                      : Tensor(stream, args.log_rates.dtype, {blocks, summaries.shape[0], summaries.shape[1]});
  std::int64_t block = 0;
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const std::size_t index = i++;
    if (chunk.tokens.size() == 0) continue;
    modal_conv_forward(stream,
                       {.in = inputs_of(args.in, chunk),
                        .residues = args.residues,
                        .log_rates = args.log_rates,
                        .state_in = edge_of(sharding, chunk).from_left ? summaries.carry(index) : TensorView(),
                        .y = chunk.rows(args.y),
                        .states = states.present() ? states.view().slice_rows(block, blocks_of(chunk)) : TensorView()});
    block += blocks_of(chunk);
  }
  if (saved != nullptr) saved->push(std::move(states));
}

void backward(const StrategyContext& context, ModalConvBackward args, Saved& saved) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const Tensor states = saved.pop();
  const Summaries summaries(sharding, args.log_rates, stream);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const TensorView row = summaries.row(i++);
    if (edge_of(sharding, chunk).from_left && chunk.tokens.size() > 0)
      modal_conv_adjoint_summary(stream, {.in = inputs_of(args.in, chunk),
                                          .residues = args.residues,
                                          .log_rates = args.log_rates,
                                          .d_y = chunk.rows(args.gradients.d_y),
                                          .adjoint = row});
  }
  exchange(context, Direction::leftwards, args.log_rates, summaries);

  std::int64_t block = 0;
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const std::size_t index = i++;
    if (chunk.tokens.size() == 0) continue;
    ModalConvBackward local = args;
    local.in = inputs_of(args.in, chunk);
    local.states = states.view().slice_rows(block, blocks_of(chunk));
    local.adjoint_in = edge_of(sharding, chunk).to_right ? summaries.carry(index) : TensorView();
    for (TensorView GatedConvGradients::*rows :
         {&GatedConvGradients::d_y, &GatedConvGradients::d_q, &GatedConvGradients::d_k, &GatedConvGradients::d_v})
      local.gradients.*rows = chunk.rows(args.gradients.*rows);
    modal_conv_backward(stream, local);
    block += blocks_of(chunk);
  }
}

Cost cost(const Sharding& sharding, const ModalConvForward& args) {
  const std::int64_t modes = args.residues.columns(), channels = args.residues.rows(),
                     state = modes * channels * size_of(args.residues.dtype);
  // The summary is a second pass over k and v.
  return carry_cost(sharding, state, state, 1.5 * modal_conv_operations(modes) * static_cast<double>(channels));
}

}  // namespace causeway::long_convolution::state_carry

/// selective_scan by state_carry: each chunk hands the state after its last token to the right, backward the adjoint
/// before its first token to the left. A summary pass from a zero start finds what a chunk contributes; carry() turns
/// the summaries into what each chunk takes in; then the kernel runs from there. A chunk whose neighbour needs nothing
/// is not summarised.

#include "parallel/strategies/operations.hpp"
#include "parallel/strategy.hpp"

namespace causeway::selective_scan::state_carry {
namespace {

/// A summary is a row of D·N + D numbers: the state (or adjoint) of every channel, then ΣΔ of every channel.
struct Summaries {
  Summaries(const Sharding& sharding, TensorView A, const Stream& stream)
      : channels(A.rows()),
        states(A.columns()),
        rows(Tensor::zeros(stream, A.dtype, {std::ssize(sharding.chunks()), channels * (states + 1)})),
        carries(stream, A.dtype, {std::ssize(sharding.chunks()), channels * states}) {}

  TensorView state(TensorView row) const { return view_of(row.data, row.dtype, {channels, states}); }
  TensorView sum_delta(TensorView row) const {
    return view_of(static_cast<std::byte*>(row.data) + channels * states * size_of(row.dtype), row.dtype, {channels});
  }
  TensorView row(std::size_t chunk) const { return rows.view().slice_rows(static_cast<std::int64_t>(chunk), 1); }
  TensorView carry(std::size_t chunk) const {
    return state(carries.view().slice_rows(static_cast<std::int64_t>(chunk), 1));
  }

  std::int64_t channels, states;
  Tensor rows;     // [chunks, D·N + D]
  Tensor carries;  // [chunks, D·N]
};

SelectiveScanInputs inputs_of(const SelectiveScanInputs& in, const Chunk& chunk) {
  SelectiveScanInputs local = in;
  for (TensorView SelectiveScanInputs::*rows :
       {&SelectiveScanInputs::u, &SelectiveScanInputs::delta, &SelectiveScanInputs::z, &SelectiveScanInputs::B,
        &SelectiveScanInputs::C})
    local.*rows = chunk.rows(in.*rows);
  local.segments = chunk.segments();
  return local;
}

const CarryPlan::Edge& edge_of(const Sharding& sharding, const Chunk& chunk) {
  return sharding.carry().chunks[static_cast<std::size_t>(chunk.number)];
}

void exchange(const StrategyContext& context, Direction direction, TensorView A, const Summaries& summaries) {
  const Stream& stream = context.stream;
  carry({.sharding = context.sharding,
         .direction = direction,
         .schedule = context.schedule,
         .summaries = summaries.rows,
         .carries = summaries.carries,
         .fold =
             [&](TensorView summary, TensorView carry, std::int64_t) {
               selective_scan_fold(stream, {.A = A,
                                            .summary_state = summaries.state(summary),
                                            .sum_delta = summaries.sum_delta(summary),
                                            .carry = summaries.state(carry)});
             }},
        context.ranks, stream);
}

std::int64_t blocks_of(const Chunk& chunk) {
  return (chunk.tokens.size() + selective_scan_block - 1) / selective_scan_block;
}

}  // namespace

void forward(const StrategyContext& context, SelectiveScanForward args, Saved* saved) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const Summaries summaries(sharding, args.in.A, stream);
  std::int64_t blocks = 0;
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const TensorView row = summaries.row(i++);
    blocks += blocks_of(chunk);
    if (edge_of(sharding, chunk).to_right && chunk.tokens.size() > 0)
      selective_scan_summary(
          stream,
          {.in = inputs_of(args.in, chunk), .state = summaries.state(row), .sum_delta = summaries.sum_delta(row)});
  }
  exchange(context, Direction::rightwards, args.in.A, summaries);

  Tensor states =
      saved == nullptr ? Tensor() : Tensor(stream, args.in.A.dtype, {blocks, summaries.channels, summaries.states});
  std::int64_t block = 0;
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const std::size_t index = i++;
    if (chunk.tokens.size() == 0) continue;
    selective_scan_forward(
        stream, {.in = inputs_of(args.in, chunk),
                 .state_in = edge_of(sharding, chunk).from_left ? summaries.carry(index) : TensorView(),
                 .y = chunk.rows(args.y),
                 .states = states.present() ? states.view().slice_rows(block, blocks_of(chunk)) : TensorView()});
    block += blocks_of(chunk);
  }
  if (saved != nullptr) saved->push(std::move(states));
}

void backward(const StrategyContext& context, SelectiveScanBackward args, Saved& saved) {
  const auto& [sharding, ranks, stream, schedule, method] = context;
  const Tensor states = saved.pop();
  const Summaries summaries(sharding, args.in.A, stream);
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const TensorView row = summaries.row(i++);
    if (edge_of(sharding, chunk).from_left && chunk.tokens.size() > 0)
      selective_scan_adjoint_summary(stream, {.in = inputs_of(args.in, chunk),
                                              .d_y = chunk.rows(args.d_y),
                                              .adjoint = summaries.state(row),
                                              .sum_delta = summaries.sum_delta(row)});
  }
  exchange(context, Direction::leftwards, args.in.A, summaries);

  std::int64_t block = 0;
  for (std::size_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const std::size_t index = i++;
    if (chunk.tokens.size() == 0) continue;
    SelectiveScanBackward local = args;
    local.in = inputs_of(args.in, chunk);
    local.states = states.view().slice_rows(block, blocks_of(chunk));
    local.adjoint_in = edge_of(sharding, chunk).to_right ? summaries.carry(index) : TensorView();
    for (TensorView SelectiveScanBackward::*rows :
         {&SelectiveScanBackward::d_y, &SelectiveScanBackward::d_u, &SelectiveScanBackward::d_delta,
          &SelectiveScanBackward::d_z, &SelectiveScanBackward::d_B, &SelectiveScanBackward::d_C})
      local.*rows = chunk.rows(args.*rows);
    selective_scan_backward(stream, local);
    block += blocks_of(chunk);
  }
}

Cost cost(const Sharding& sharding, const SelectiveScanForward& args) {
  const std::int64_t channels = args.in.A.rows(), states = args.in.A.columns(), size = size_of(args.in.A.dtype);
  // The summary is a second pass over u, delta and B.
  return carry_cost(sharding, states * channels * size, (states + 1) * channels * size,
                    1.9 * selective_scan_operations(states) * static_cast<double>(channels));
}

}  // namespace causeway::selective_scan::state_carry

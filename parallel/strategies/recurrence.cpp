#include "parallel/strategies/recurrence.hpp"

#include <algorithm>

#include "kernels/core/integer.hpp"

namespace causeway {

void run_with_carry(const StrategyContext& context, const Recurrence& recurrence) {
  const Sharding& sharding = context.sharding;
  const bool right = recurrence.direction == Direction::rightwards;
  const auto edge = [&](const Chunk& chunk) {
    return sharding.carry_plan().chunks[static_cast<std::size_t>(chunk.index)];
  };
  const auto receives = [&](const Chunk& chunk) { return right ? edge(chunk).from_left : edge(chunk).to_right; };
  const auto sends = [&](const Chunk& chunk) { return right ? edge(chunk).to_right : edge(chunk).from_left; };

  // On one rank, and where every edge between chunks is one between documents, no rank has a state to carry.
  if (std::ranges::none_of(sharding.carry_plan().chunks,
                           [](const CarryPlan::ChunkEdges& chunk) { return chunk.from_left || chunk.to_right; })) {
    for (const Chunk& chunk : sharding.chunks())
      if (chunk.tokens.size() > 0) recurrence.run(chunk, {}, {});
    return;
  }

  const std::int64_t chunks = std::ssize(sharding.chunks());
  const Tensor carries(context.stream, recurrence.dtype, {chunks, recurrence.state_size});
  const std::int64_t size = size_of(recurrence.dtype);
  const Schedule schedule =
      context.schedule != Schedule::automatic
          ? context.schedule
          : cheaper_schedule(sharding, recurrence.state_size * size, recurrence.summary_size * size);
  if (schedule == Schedule::relay && !context.repeats()) {
    run_relay({.sharding = sharding, .direction = recurrence.direction, .carries = carries, .scan = recurrence.run},
              context.ranks, context.stream);
    context.pass_received(carries);
    return;
  }
  if (!context.repeats()) {
    const Tensor summaries = Tensor::zeros(context.stream, recurrence.dtype, {chunks, recurrence.summary_size});
    for (std::int64_t i = 0; const Chunk& chunk : sharding.chunks()) {
      const TensorView summary = summaries.view().slice_rows(i++, 1);
      if (sends(chunk) && chunk.tokens.size() > 0) recurrence.summarise(chunk, summary);
    }
    carry({.sharding = sharding,
           .direction = recurrence.direction,
           .schedule = schedule,
           .summaries = summaries,
           .carries = carries,
           .fold = recurrence.fold},
          context.ranks, context.stream);
  }
  context.pass_received(carries);
  for (std::int64_t i = 0; const Chunk& chunk : sharding.chunks()) {
    const TensorView carry = carries.view().slice_rows(i++, 1);
    if (chunk.tokens.size() > 0) recurrence.run(chunk, receives(chunk) ? carry : TensorView(), {});
  }
}

namespace {

std::int64_t blocks_of(const Chunk& chunk, std::int64_t block) { return ceil_div(chunk.tokens.size(), block); }

}  // namespace

TensorView states_of_chunk(const Sharding& sharding, const Chunk& chunk, TensorView states, std::int64_t block) {
  if (!states.present()) return states;
  std::int64_t before = 0;
  for (const Chunk& other : sharding.chunks())
    if (other.first_row < chunk.first_row) before += blocks_of(other, block);
  return states.slice_rows(before, blocks_of(chunk, block));
}

std::int64_t state_rows(const Sharding& sharding, std::int64_t block) {
  std::int64_t rows = 0;
  for (const Chunk& chunk : sharding.chunks()) rows += blocks_of(chunk, block);
  return rows;
}

}  // namespace causeway

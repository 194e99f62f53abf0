#pragma once

#include <functional>

#include "parallel/strategy.hpp"

namespace causeway {

/// A linear recurrence along the tokens, forwards or its adjoint backwards, as state_carry sees it. What a chunk
/// contributes to its neighbour is found from a zero start, carry() turns that into what each chunk takes in, then
/// every chunk runs from there. Chunks without tokens only pass on.
struct Recurrence {
  Direction direction = Direction::rightwards;
  DType dtype = DType::f32;       ///< of states
  std::int64_t state_size = 0;    ///< numbers of a state
  std::int64_t summary_size = 0;  ///< of a summary, whose first state_size are its state
  /// Writes the summary row [1, summary_size] of a chunk whose neighbour takes it. It is zero before.
  std::function<void(const Chunk& chunk, TensorView summary)> summarise;
  std::function<void(TensorView summary, TensorView carry, std::int64_t tokens)> fold;  ///< as CarryExchange's
  /// The operator on one chunk; `carry` [1, state_size] is what it takes in, absent where its document begins with it.
  std::function<void(const Chunk& chunk, TensorView carry)> run;
};
void run_with_carry(const StrategyContext& context, const Recurrence& recurrence);

/// The rows of `states`, one for every `block` tokens of each of a rank's chunks, that are this chunk's; absent without
/// states.
TensorView states_of(const Sharding& sharding, const Chunk& chunk, TensorView states, std::int64_t block);
/// How many rows those are of all chunks.
std::int64_t state_rows(const Sharding& sharding, std::int64_t block);

}  // namespace causeway

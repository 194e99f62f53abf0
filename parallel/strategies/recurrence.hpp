#pragma once

#include <functional>

#include "parallel/strategy.hpp"

namespace causeway {

/// A linear recurrence along the tokens, or its adjoint in the other direction, for the strategy state_carry. chain and
/// gather take three steps: each chunk computes its summary from a zero start; carry() computes the state that each
/// chunk receives; each chunk runs the operator from this state. In a relay there is only the last of them: the
/// operator also writes the state that leaves the chunk. Chunks without tokens only pass on the state.
struct Recurrence {
  Direction direction = Direction::rightwards;
  DType dtype = DType::f32;       ///< of states
  std::int64_t state_size = 0;    ///< elements of a state
  std::int64_t summary_size = 0;  ///< elements of a summary; the first state_size are its state
  /// Writes the summary [1, summary_size] of a chunk, zero before. Called only if a document continues after the chunk.
  std::function<void(const Chunk& chunk, TensorView summary)> summarise;
  std::function<void(TensorView summary, TensorView carry, std::int64_t tokens)> fold;  ///< see CarryExchange
  /// Runs the operator on one chunk. `carry` [1, state_size] is the state that it receives; absent if its first
  /// document begins with it. `leaving` [1, state_size] receives the state that leaves it; absent if none is wanted.
  std::function<void(const Chunk& chunk, TensorView carry, TensorView leaving)> run;
};
void run_with_carry(const StrategyContext& context, const Recurrence& recurrence);

/// `states` has a row for every `block` tokens of each of a rank's chunks. Returns the rows of one chunk; absent if
/// `states` is.
TensorView states_of_chunk(const Sharding& sharding, const Chunk& chunk, TensorView states, std::int64_t block);
/// The number of rows of `states` for all chunks.
std::int64_t state_rows(const Sharding& sharding, std::int64_t block);

}  // namespace causeway

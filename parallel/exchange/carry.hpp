#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "kernels/core/tensor.hpp"
#include "parallel/cost/cost.hpp"
#include "parallel/layout/sharding.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// How states travel over the chunk edges.
/// chain: each rank receives the state of the chunk to its left, folds its own summary onto it and sends the result to
/// the next rank: one message per edge that a document crosses, of one state, one after the other.
/// gather: every rank receives all summaries and folds those that it needs: one latency, N times the bytes.
/// Both fold in chunk order with the same function, from the chunk in which the document begins: the same bits.
enum class Schedule : std::uint8_t { automatic, chain, gather };

std::string_view name_of(Schedule schedule);
Schedule parse_schedule(std::string_view name);  ///< throws Error(usage)

/// The schedule that `automatic` uses, the same on every rank: the one with the lower estimated time, where a message
/// of b bytes takes as long as streaming 32 KiB + b bytes (3 µs latency at 10 GB/s). The time of a chain is that of its
/// messages that wait for one another, each of one state. The time of a gather is that of one message with the
/// summaries of all other ranks.
Schedule cheaper_schedule(const Sharding& sharding, std::int64_t state_bytes, std::int64_t summary_bytes);

enum class Direction : std::uint8_t { rightwards, leftwards };

/// Carries the state of a linear recurrence over chunk edges. The state that chunk c receives is
///   fold(summary(c-1), in(c-1))      if one document covers all of chunk c-1 and continues into c
///   the state in summary(c-1)        if the last document of chunk c-1 begins in it and continues into c
///   0                                if chunk c begins with a new document
/// A chunk without tokens passes on the state that it receives. Summaries of documents that do not continue are not
/// read, so that a NaN stays in its document. `leftwards` is the same on the mirrored pack, for the adjoint.
struct CarryExchange {
  const Sharding& sharding;
  Direction direction = Direction::rightwards;
  Schedule schedule = Schedule::automatic;
  TensorView summaries;  ///< [this rank's chunks, S], dense: the summary of each chunk, that is its last state from a
                         ///< zero start, and all other values that `fold` needs
  TensorView carries;    ///< [this rank's chunks, S'], dense, written: the state that each chunk receives. The first
                         ///< S' <= S elements of a summary are its state
  /// carry = state of the summary + decay ∘ carry, in place. `summary` is [1, S], `carry` [1, S'], `tokens` the number
  /// of tokens of the summary's chunk.
  std::function<void(TensorView summary, TensorView carry, std::int64_t tokens)> fold;
};
void carry(const CarryExchange& exchange, Communicator& ranks, const Stream& stream);

/// What a strategy that carries a state computes and sends, for its cost.
struct CarryWork {
  TimedKernel kernel, summary;  ///< of the forward pass
  std::int64_t channels = 0, state_bytes = 0, summary_bytes = 0;
};
/// By the formulas of strategies/README.md for the schedule that `automatic` uses. A chain sends at most state_bytes
/// per chunk edge, a gather N-1 summaries. A summary is computed of the tokens of the document that crosses the edge.
PassCosts carry_costs(const Sharding& sharding, const CarryWork& work);

}  // namespace causeway

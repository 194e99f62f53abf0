#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "kernels/core/tensor.hpp"
#include "parallel/cost/cost.hpp"
#include "parallel/layout/sharding.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// How states are passed over the chunk edges. chain and gather fold summaries, relay takes the states of the scans.
/// chain: each rank receives the state of the chunk to its left, folds its own summary onto it and sends the result to
/// the next rank: one message per edge that a document crosses, of one state, one after the other.
/// gather: every rank receives all summaries and folds those that it needs: one latency, N times the bytes.
/// Both fold in chunk order with the same function, from the chunk in which the document begins: the same bits.
/// relay: no summaries. A chunk is scanned when the state that enters it has arrived, and its scan's last state goes to
/// the next rank. A rank is one scan behind the rank before it; over layers that pass data in this direction only it
/// stays so, and the wait is lost once a pass, not once a layer. The bits differ from those of a fold.
enum class Schedule : std::uint8_t { automatic, chain, gather, relay };

std::string_view name_of(Schedule schedule);
Schedule parse_schedule(std::string_view name);  ///< throws Error(usage)

/// The schedule that `automatic` uses, the same on every rank and in both directions.
/// relay, if its waits are shorter than the summaries of the others take. It waits once a pass for the scans of all
/// ranks before the last one: their share in a layer counts, by Sharding::one_way_layers(). A summary counts as
/// `summary_share` of a scan of as many tokens, both passes together. An H200 takes for 131,072 tokens of 4,096
/// channels and 16 states 3.0 + 2.4 ms for the summaries and 5.2 + 16 for the scans (0.26); hyena_li 0.28, a CPU core
/// 0.40 and 0.21. Measured once and fixed: the choice, which changes bits, never depends on times of a run. Otherwise
/// chain or gather, whose bits are the same: the one with the lower estimated time, where a message of b bytes takes as
/// long as streaming 32 KiB + b bytes (3 µs latency at 10 GB/s). The time of a chain is that of its messages that wait
/// for one another, each of one state; of a gather that of one message with the summaries of all other ranks.
Schedule cheaper_schedule(const Sharding& sharding, std::int64_t state_bytes, std::int64_t summary_bytes);
bool relay_is_cheaper(const Sharding& sharding);  ///< whether it is a relay
inline constexpr double summary_share = 0.26;

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
  Schedule schedule = Schedule::automatic;  ///< chain or gather
  TensorView summaries;  ///< [this rank's chunks, S], dense: the summary of each chunk, that is its last state from a
                         ///< zero start, and all other values that `fold` needs
  TensorView carries;    ///< [this rank's chunks, S'], dense, written: the state that each chunk receives. The first
                         ///< S' <= S elements of a summary are its state
  /// carry = state of the summary + decay ∘ carry, in place. `summary` is [1, S], `carry` [1, S'], `tokens` the number
  /// of tokens of the summary's chunk.
  std::function<void(TensorView summary, TensorView carry, std::int64_t tokens)> fold;
};
void carry(const CarryExchange& exchange, Communicator& ranks, const Stream& stream);

/// The schedule relay: scans this rank's chunks in the order in which the state passes through them. States of
/// documents that do not continue are not sent, so that a NaN stays in its document.
struct Relay {
  const Sharding& sharding;
  Direction direction = Direction::rightwards;
  TensorView carries;  ///< [this rank's chunks, S], dense, written: the state that each chunk receives, or zero
  /// Scans a chunk that has tokens. `carry` [1, S] is the state that enters it; absent if its first document begins
  /// with it. `leaving` [1, S] is to receive the state after its last token; absent if its last document ends with it.
  std::function<void(const Chunk& chunk, TensorView carry, TensorView leaving)> scan;
};
void run_relay(const Relay& relay, Communicator& ranks, const Stream& stream);

/// What a strategy that carries a state computes and sends, for its cost.
struct CarryWork {
  TimedKernel kernel, summary;  ///< of the forward pass
  std::int64_t channels = 0, state_bytes = 0, summary_bytes = 0;
};
/// By the formulas of strategies/README.md for the schedule that `automatic` uses. A chain and a relay send at most
/// state_bytes per chunk edge, a gather N-1 summaries. A summary is computed of the tokens of the document that crosses
/// the edge. The scans for which a relay waits count as the rank's own, divided by Sharding::one_way_layers().
PassCosts carry_costs(const Sharding& sharding, const CarryWork& work);

}  // namespace causeway

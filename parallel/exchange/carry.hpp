#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "kernels/core/tensor.hpp"
#include "parallel/cost/cost.hpp"
#include "parallel/layout/sharding.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// chain: each rank folds its summary onto what its neighbour sends and passes the result on: one message of a state a
/// chunk edge that a document crosses, one latency after the other. gather: every rank gets all summaries and folds the
/// part it needs: one latency, N times the bytes. Both fold in chunk order with the same function, from where a
/// document's start cuts the chain: same bits.
enum class Schedule : std::uint8_t { automatic, chain, gather };

std::string_view name_of(Schedule schedule);
Schedule parse_schedule(std::string_view name);  ///< throws Error(usage)

/// What `automatic` takes, the same on every rank: the schedule that is done first when a message of b bytes takes as
/// long as 32 KiB + b bytes take to stream (3 µs at 10 GB/s). chain waits for as many messages of a state as follow
/// from one another, gather for one of everybody's summaries.
Schedule cheaper_schedule(const Sharding& sharding, std::int64_t state_bytes, std::int64_t summary_bytes);

enum class Direction : std::uint8_t { rightwards, leftwards };

/// Carries the state of a linear recurrence over chunk edges: in(c) = fold(summary(c-1), in(c-1)) where one document
/// spans chunk c-1, the state of summary(c-1) where its last document began in it, and zero where chunk c begins a
/// document. A chunk without tokens passes on what reaches it. What ended is not read: a NaN in it stays there.
/// `leftwards` is the same on the mirrored pack, for the adjoint.
struct CarryExchange {
  const Sharding& sharding;
  Direction direction = Direction::rightwards;
  Schedule schedule = Schedule::automatic;
  TensorView summaries;  ///< [this rank's chunks, S], dense: what each chunk contributes from a zero start; one flat
                         ///< row a chunk
  TensorView carries;    ///< [this rank's chunks, S'], dense: what each chunk takes in, written. The first S' <= S
                         ///< elements of a summary are its state
  /// carry = summary's state + decay ∘ carry, in place; both flat rows, [1, S] and [1, S']. `tokens` is what the
  /// summary's chunk spans.
  std::function<void(TensorView summary, TensorView carry, std::int64_t tokens)> fold;
};
void carry(const CarryExchange& exchange, Communicator& ranks, const Stream& stream);

/// Of a strategy that carries: strategies.md's bytes of the schedule that `automatic` takes, chain state_bytes a chunk
/// edge, gather (N-1) summaries. A document over all ranks is taken for granted. `operations_a_token` are all
/// channels'.
Cost carry_cost(const Sharding& sharding, std::int64_t state_bytes, std::int64_t summary_bytes,
                double operations_a_token);

}  // namespace causeway

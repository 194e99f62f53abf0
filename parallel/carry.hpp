#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "kernels/tensor.hpp"
#include "parallel/communicator.hpp"
#include "parallel/sharding.hpp"

namespace causeway {

/// chain: each rank folds its summary onto what its neighbour sends and passes the result on, 1 message a chunk edge, N latencies.
/// gather: every rank gets all summaries and folds its own prefix, 1 latency, N times the bytes. Both fold in chunk order with the same kernel: same bits.
enum class Schedule : std::uint8_t { automatic, chain, gather };

std::string_view name_of(Schedule schedule);
Schedule parse_schedule(std::string_view name);  ///< throws Error(usage)

enum class Direction : std::uint8_t { rightwards, leftwards };

/// Carries the state of a linear recurrence over chunk edges: in(c) = fold(in(c-1), summary(c-1)), cut wherever a document starts. `leftwards` is
/// the same on the mirrored pack, for the adjoint.
struct CarryExchange {
  const Sharding& sharding;
  Direction direction = Direction::rightwards;
  Schedule schedule = Schedule::automatic;
  TensorView summaries;  ///< [this rank's chunks, S]: what each chunk contributes from a zero start; one flat row a chunk
  TensorView carries;    ///< [this rank's chunks, S']: S' <= S leading elements are the state; written: what each chunk takes in, zero where nothing comes
  /// carry = summary's state + decay(summary) ∘ carry, in place; both flat rows. Called only where the decay is not cut.
  std::function<void(TensorView summary, TensorView carry)> fold;
};
void carry(const CarryExchange& exchange, Communicator& ranks, const Stream& stream);

}  // namespace causeway

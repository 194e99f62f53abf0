#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/core/tensor.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// One step of a transform across ranks, as one of them sees it. The ranks of a group that is still one transform of
/// `points` points stand in it by their index; `radix` of them, points/radix apart, combine:
///   forward   branch k of rank n:  x ← Σ_{m = n mod points/radix} exp(-2πi m·k/points) · x_m
///   inverse   its adjoint:         x ← Σ_{branches k}             exp(+2πi n·k/points) · x_k
/// after which the ranks of one branch are a transform of their own, of points/radix points.
struct Butterfly {
  struct Branch {
    int rank = 0;              ///< position among the ranks of the transform
    std::int64_t forward = 0;  ///< what comes from there is turned by exp(2πi forward/points),
    std::int64_t inverse = 0;  ///< or by exp(2πi inverse/points)
  };
  std::int64_t points = 1;
  int own = 0;                   ///< this rank's branch
  std::vector<Branch> branches;  ///< radix of them, this rank's own among them
};

/// The butterflies of the rank at `position` of `ranks`, one a prime factor, in forward's order; made purely.
struct ButterflyPlan {
  std::vector<Butterfly> stages;
  /// Forward leaves with this rank, of ranks·S points, the frequencies k ≡ residue (mod ranks), ascending: its digits
  /// are the position's in reverse.
  std::int64_t residue = 0;
};
ButterflyPlan plan_butterflies(int ranks, int position);

/// One rank's part of a complex Fourier transform of ranks·S points along the tokens, for each channel. Tokens lie in
/// rank order, S a rank; frequencies stay where the butterflies leave them (ButterflyPlan::residue).
struct RankFft {
  std::span<const int> ranks;  ///< any number of the communicator's, this one among them, in order of their tokens
  TensorView x;                ///< [S, D, 2], dense, accumulator type; in place
};

enum class Fourier : std::uint8_t { forward, inverse };

/// forward: X[k] = Σ_j x[j] exp(-2πi jk/(ranks·S)); inverse: x[j] = Σ_k X[k] exp(+2πi jk/(ranks·S)), not scaled. Each
/// is the other's adjoint, and inverse after forward is ranks·S times the identity. Radix p between ranks for every
/// prime factor p of their number, then twiddle factors and a transform of S points on each. In a stage a rank sends
/// its whole tensor to p-1 others, one message each.
///
/// All `transforms` go in lockstep: one exchange holds the i-th stage of every one of them, so that a rank in two of
/// them makes no rank of the second wait for the first. Ranks of one transform list theirs that they share in one
/// order.
void rank_fft(std::span<const RankFft> transforms, Fourier direction, Communicator& ranks, const Stream& stream);

/// What a rank sends for one transform of `rows` rows a rank: Σ over the prime factors p of ranks of (p-1) · rows ·
/// channels · the size of a complex number.
std::int64_t rank_fft_bytes(int ranks, std::int64_t rows, std::int64_t channels, DType accumulator);

}  // namespace causeway

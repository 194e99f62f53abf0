#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/core/tensor.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// One stage of a Fourier transform across ranks, as one rank sees it: a butterfly of radix p. `points` ranks, numbered
/// from 0, still form one transform; p of them, points/p apart, combine their tensors:
///   forward   branch k of rank n:  x ← Σ_{m = n mod points/p} exp(-2πi m·k/points) · x_m
///   inverse   its adjoint:         x ← Σ_{branches k}         exp(+2πi n·k/points) · x_k
/// Afterwards the ranks of one branch form a transform of points/p points.
struct Butterfly {
  struct Branch {
    int rank = 0;              ///< position among the ranks of the transform
    std::int64_t forward = 0;  ///< forward, its tensor is multiplied by exp(2πi forward/points)
    std::int64_t inverse = 0;  ///< inverse, by exp(2πi inverse/points)
  };
  std::int64_t points = 1;
  int own = 0;                   ///< this rank's branch
  std::vector<Branch> branches;  ///< p of them, this rank's own included
};

/// The butterflies of one rank: one stage per prime factor of the number of ranks, in forward order.
struct ButterflyPlan {
  std::vector<Butterfly> stages;
  /// The forward transform leaves the frequencies k ≡ residue (mod ranks) on this rank, ascending. The digits of
  /// residue are those of the rank's position in reverse order.
  std::int64_t residue = 0;
};
/// For the rank at `position` of `ranks`. A pure function: it communicates with no rank.
ButterflyPlan plan_butterflies(int ranks, int position);

/// One rank's part of a complex Fourier transform of ranks·S points along the tokens, for each channel. The rank at
/// position p holds the points [p·S, (p+1)·S) before and the frequencies of ButterflyPlan::residue after the transform.
struct DistributedFft {
  std::span<const int> ranks;  ///< the ranks of the transform in the communicator, in the order of their tokens
  TensorView x;                ///< [S, D, 2], dense, accumulator type; transformed in place
};

enum class FftDirection : std::uint8_t { forward, inverse };

/// forward: X[k] = Σ_j x[j] exp(-2πi jk/(ranks·S)); inverse: x[j] = Σ_k X[k] exp(+2πi jk/(ranks·S)), not scaled. Each
/// is the adjoint of the other, and inverse after forward is ranks·S times the identity. Between ranks there is a
/// butterfly of radix p for every prime factor p of their number, then twiddle factors and a transform of S points on
/// each rank. In a stage a rank sends its whole tensor to p-1 other ranks, in one message to each.
///
/// All `transforms` advance together: one exchange holds the i-th stage of each of them, so that a rank that is in two
/// transforms does not delay the ranks of the second. The ranks of one transform must list the transforms that they
/// share in the same order.
void distributed_fft(std::span<const DistributedFft> transforms, FftDirection direction, Communicator& ranks,
                     const Stream& stream);

/// The bytes that a rank sends for one transform of `rows` rows per rank: Σ over the prime factors p of `ranks` of
/// (p-1) · rows · channels · the size of a complex point.
std::int64_t distributed_fft_bytes(int ranks, std::int64_t rows, std::int64_t channels, DType accumulator);

}  // namespace causeway

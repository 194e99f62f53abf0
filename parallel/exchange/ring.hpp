#pragma once

#include <functional>
#include <span>

#include "kernels/core/tensor.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// A block a rank, which every rank wants to see and none shall hold all of: N-1 hops to the right, of which the next
/// is in flight while what the last one brought is worked on.
struct Ring {
  std::span<const Shape> shapes;  ///< of every rank's block; an empty one is no message
  Communicator& ranks;
  const Stream& stream;
};

/// Calls visit(owner, block) with every rank's block: this rank's own, its left neighbour's, and so on round. A message
/// a hop; a rank sends every block but its right neighbour's, and holds two besides its own.
void pass_round(const Ring& ring, TensorView own, const std::function<void(int owner, TensorView block)>& visit);

/// Its adjoint, for a visit that is differentiated: the blocks go round again, visit adds its share of the gradient of
/// each to d_block (accumulator type), and d_own += every rank's share of this rank's block. A share goes straight to
/// the block's owner, rounded to the block's dtype once, whereas what rode along the ring would be rounded at every
/// hop; the owner adds them in the accumulator type, in the order of the ranks to its right. Twice the bytes and the
/// messages of pass_round.
void pass_round_adjoint(const Ring& ring, TensorView own, TensorView d_own,
                        const std::function<void(int owner, TensorView block, TensorView d_block)>& visit);

}  // namespace causeway

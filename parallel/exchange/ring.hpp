#pragma once

#include <functional>
#include <span>

#include "kernels/core/tensor.hpp"
#include "parallel/transport/communicator.hpp"

namespace causeway {

/// A ring exchange: every rank has a block that every other rank reads, but no rank has memory for all of them. The
/// blocks move N-1 hops to the right. While one block is used, the next is in flight.
struct Ring {
  std::span<const Shape> shapes;  ///< of every rank's block; an empty block is not sent
  Communicator& ranks;
  const Stream& stream;
};

/// Calls visit(owner, block) with every rank's block: first this rank's own, then its left neighbour's, and so on. One
/// message per hop. A rank sends every block except its right neighbour's. It holds two blocks at a time: `own` is
/// freed after the first hop.
void ring_exchange(const Ring& ring, Tensor own, const std::function<void(int owner, TensorView block)>& visit);

/// The adjoint of ring_exchange with a differentiable visit. The blocks move round again; visit adds this rank's part
/// of the gradient of each block to d_block, which is zero before, in the accumulator type. d_block is absent for this
/// rank's own block: the caller adds its gradient itself, and the other ranks' parts of it by add(part). A part is sent
/// directly to the owner of the block, rounded to the block's dtype once (a sum that moves along the ring would be
/// rounded at every hop). The order of the parts is that of the ranks to the owner's right. Sends twice the bytes and
/// messages of ring_exchange. Beside the two blocks a rank holds d_block, and a part in each direction; without
/// rounding d_block is the part to send.
void ring_exchange_adjoint(const Ring& ring, Tensor own,
                           const std::function<void(int owner, TensorView block, TensorView d_block)>& visit,
                           const std::function<void(TensorView part)>& add);

}  // namespace causeway

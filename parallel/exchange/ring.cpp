#include "parallel/exchange/ring.hpp"

#include <utility>

#include "kernels/activation.hpp"

namespace causeway {
namespace {

/// The rank `distance` positions to the right; to the left if it is negative.
int neighbour(const Communicator& ranks, int distance) {
  return (ranks.rank() + distance + ranks.size()) % ranks.size();
}

/// Calls visit(hop, block) for hop = 0 (this rank's own block) to N-1; the block's owner is `hop` positions to the
/// left.
template <class Visit>
void each_hop(const Ring& ring, TensorView own, const Visit& visit) {
  const auto& [shapes, ranks, stream] = ring;
  ensure(std::ssize(shapes) == ranks.size() && shapes[static_cast<std::size_t>(ranks.rank())] == own.shape,
         "ring exchange: rank {} has a block {}, which is not its entry in the list of {} shapes for {} ranks",
         ranks.rank(), own.shape.to_string(), shapes.size(), ranks.size());
  Tensor current, next;
  for (int hop = 0; hop < ranks.size(); ++hop) {
    const TensorView block = hop == 0 ? own : current.view();
    Pending arriving;
    if (hop + 1 < ranks.size()) {
      next = Tensor(stream, own.dtype, shapes[static_cast<std::size_t>(neighbour(ranks, -hop - 1))]);
      const Transfer transfers[] = {{.peer = neighbour(ranks, 1), .send = block.as_bytes(), .recv = {}},
                                    {.peer = neighbour(ranks, -1), .send = {}, .recv = next.view().as_bytes()}};
      arriving = ranks.start(transfers, stream);
    }
    visit(hop, block);
    arriving.wait();
    current = std::exchange(next, {});
  }
}

}  // namespace

void ring_exchange(const Ring& ring, TensorView own, const std::function<void(int owner, TensorView block)>& visit) {
  each_hop(ring, own, [&](int hop, TensorView block) { visit(neighbour(ring.ranks, -hop), block); });
}

void ring_exchange_adjoint(const Ring& ring, TensorView own, TensorView d_own,
                           const std::function<void(int owner, TensorView block, TensorView d_block)>& visit) {
  const auto& [shapes, ranks, stream] = ring;
  Tensor sent_part, received_part;
  Pending returning;
  const auto add_received_part = [&] {
    returning.wait();
    if (received_part.present()) scale(stream, {.x = received_part, .accumulate = true, .y = d_own});
    sent_part = {};
    received_part = {};
  };
  each_hop(ring, own, [&](int hop, TensorView block) {
    const int owner = neighbour(ranks, -hop);
    if (hop == 0) return visit(owner, block, d_own);
    Tensor d_block = Tensor::zeros(stream, d_own.dtype, block.shape);
    visit(owner, block, d_block);
    add_received_part();
    if (d_own.dtype == block.dtype) {
      sent_part = std::move(d_block);
    } else {
      sent_part = Tensor(stream, block.dtype, block.shape);
      scale(stream, {.x = d_block, .y = sent_part});
    }
    received_part = Tensor(stream, own.dtype, own.shape);
    const Transfer transfers[] = {{.peer = owner, .send = sent_part.view().as_bytes(), .recv = {}},
                                  {.peer = neighbour(ranks, hop), .send = {}, .recv = received_part.view().as_bytes()}};
    returning = ranks.start(transfers, stream);
  });
  add_received_part();
}

}  // namespace causeway

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
void each_hop(const Ring& ring, Tensor own, const Visit& visit) {
  const auto& [shapes, ranks, stream] = ring;
  ensure(std::ssize(shapes) == ranks.size() && shapes[static_cast<std::size_t>(ranks.rank())] == own.view().shape,
         "ring exchange: rank {} has a block {}, which is not its entry in the list of {} shapes for {} ranks",
         ranks.rank(), own.view().shape.to_string(), shapes.size(), ranks.size());
  Tensor current = std::move(own), next;
  for (int hop = 0; hop < ranks.size(); ++hop) {
    const TensorView block = current;
    Pending arriving;
    if (hop + 1 < ranks.size()) {
      next = Tensor(stream, block.dtype, shapes[static_cast<std::size_t>(neighbour(ranks, -hop - 1))]);
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

void ring_exchange(const Ring& ring, Tensor own, const std::function<void(int owner, TensorView block)>& visit) {
  each_hop(ring, std::move(own), [&](int hop, TensorView block) { visit(neighbour(ring.ranks, -hop), block); });
}

void ring_exchange_adjoint(const Ring& ring, Tensor own,
                           const std::function<void(int owner, TensorView block, TensorView d_block)>& visit,
                           const std::function<void(TensorView part)>& add) {
  const auto& [shapes, ranks, stream] = ring;
  const DType dtype = own.view().dtype, accumulator = accumulator_of(dtype);
  const Shape own_shape = own.view().shape;
  Tensor sent_part, received_part;
  Pending returning;
  const auto add_received_part = [&] {
    returning.wait();
    if (received_part.present()) add(received_part);
    sent_part = {};
    received_part = {};
  };
  each_hop(ring, std::move(own), [&](int hop, TensorView block) {
    const int owner = neighbour(ranks, -hop);
    if (hop == 0) return visit(owner, block, {});
    Tensor d_block = Tensor::zeros(stream, accumulator, block.shape);
    visit(owner, block, d_block);
    add_received_part();
    if (accumulator == dtype) {
      sent_part = std::move(d_block);
    } else {
      sent_part = Tensor(stream, dtype, block.shape);
      scale(stream, {.x = d_block, .y = sent_part});
      d_block = {};
    }
    received_part = Tensor(stream, dtype, own_shape);
    const Transfer transfers[] = {{.peer = owner, .send = sent_part.view().as_bytes(), .recv = {}},
                                  {.peer = neighbour(ranks, hop), .send = {}, .recv = received_part.view().as_bytes()}};
    returning = ranks.start(transfers, stream);
  });
  add_received_part();
}

}  // namespace causeway

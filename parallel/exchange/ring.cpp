#include "parallel/exchange/ring.hpp"

#include <utility>

#include "kernels/activation.hpp"

namespace causeway {
namespace {

/// The rank so many places to the right; to the left where negative.
int neighbour(const Communicator& ranks, int places) { return (ranks.rank() + places + ranks.size()) % ranks.size(); }

/// visit(hop, block) after each hop, none before the first: `hop` places to the left is the block's owner.
template <class Visit>
void each_hop(const Ring& ring, TensorView own, const Visit& visit) {
  const auto& [shapes, ranks, stream] = ring;
  ensure(std::ssize(shapes) == ranks.size() && shapes[static_cast<std::size_t>(ranks.rank())] == own.shape,
         "a block {} on rank {}, in a ring of {} shapes on {} ranks", own.shape.to_string(), ranks.rank(),
         shapes.size(), ranks.size());
  Tensor current, next;
  for (int hop = 0; hop < ranks.size(); ++hop) {
    const TensorView here = hop == 0 ? own : current.view();
    Pending arriving;
    if (hop + 1 < ranks.size()) {
      next = Tensor(stream, own.dtype, shapes[static_cast<std::size_t>(neighbour(ranks, -hop - 1))]);
      const Transfer transfers[] = {{.peer = neighbour(ranks, 1), .send = here.as_bytes(), .recv = {}},
                                    {.peer = neighbour(ranks, -1), .send = {}, .recv = next.view().as_bytes()}};
      arriving = ranks.start(transfers, stream);
    }
    visit(hop, here);
    arriving.wait();
    current = std::exchange(next, {});
  }
}

}  // namespace

void pass_round(const Ring& ring, TensorView own, const std::function<void(int owner, TensorView block)>& visit) {
  each_hop(ring, own, [&](int hop, TensorView block) { visit(neighbour(ring.ranks, -hop), block); });
}

void pass_round_adjoint(const Ring& ring, TensorView own, TensorView d_own,
                        const std::function<void(int owner, TensorView block, TensorView d_block)>& visit) {
  const auto& [shapes, ranks, stream] = ring;
  Tensor given, taken;
  Pending returning;
  const auto add_taken = [&] {
    returning.wait();
    if (taken.present()) scale(stream, {.x = taken, .accumulate = true, .y = d_own});
    given = {};
    taken = {};
  };
  each_hop(ring, own, [&](int hop, TensorView block) {
    const int owner = neighbour(ranks, -hop);
    if (hop == 0) return visit(owner, block, d_own);
    Tensor d_block = Tensor::zeros(stream, d_own.dtype, block.shape);
    visit(owner, block, d_block);
    add_taken();
    if (d_own.dtype == block.dtype) {
      given = std::move(d_block);
    } else {
      given = Tensor(stream, block.dtype, block.shape);
      scale(stream, {.x = d_block, .y = given});
    }
    taken = Tensor(stream, own.dtype, own.shape);
    const Transfer transfers[] = {{.peer = owner, .send = given.view().as_bytes(), .recv = {}},
                                  {.peer = neighbour(ranks, hop), .send = {}, .recv = taken.view().as_bytes()}};
    returning = ranks.start(transfers, stream);
  });
  add_taken();
}

}  // namespace causeway

#include "parallel/exchange/halo.hpp"

#include <memory>
#include <utility>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/reorder.hpp"

namespace causeway {
namespace {

/// The rows of some moves, packed one after the other, and the part of them that belongs to each peer.
class Packed {
 public:
  Packed(const std::vector<RowMove>& moves, int RowMove::*peer, TensorView like, const Stream& stream) {
    std::int64_t rows = 0;
    for (const RowMove& move : moves) {
      if (parts_.empty() || parts_.back().peer != move.*peer) parts_.push_back({move.*peer, rows, 0});
      parts_.back().count += move.rows.count;
      rows += move.rows.count;
    }
    rows_ = Tensor(stream, like.dtype, {rows, like.columns()});
  }

  TensorView rows() const { return rows_; }
  void add_sends(std::vector<Transfer>& transfers) const {
    for (const Part& part : parts_) transfers.push_back({.peer = part.peer, .send = bytes(part)});
  }
  void add_receives(std::vector<Transfer>& transfers) const {
    for (const Part& part : parts_) transfers.push_back({.peer = part.peer, .recv = bytes(part)});
  }

 private:
  struct Part {
    int peer;
    std::int64_t begin, count;
  };
  std::span<std::byte> bytes(const Part& part) const {
    return rows_.view().slice_rows(part.begin, part.count).as_bytes();
  }

  std::vector<Part> parts_;
  Tensor rows_;
};

/// From a tensor that holds the moved rows at `at` to their packed copy.
std::vector<RowRange> packing(const std::vector<RowMove>& moves, std::int64_t RowRange::*at) {
  std::vector<RowRange> ranges;
  for (std::int64_t packed = 0; const RowMove& move : moves) {
    ranges.push_back({.from = move.rows.*at, .to = packed, .count = move.rows.count});
    packed += move.rows.count;
  }
  return ranges;
}

/// And back.
std::vector<RowRange> unpacking(const std::vector<RowMove>& moves, std::int64_t RowRange::*at) {
  std::vector<RowRange> ranges = packing(moves, at);
  for (RowRange& range : ranges) std::swap(range.from, range.to);
  return ranges;
}

/// Both messages' rows live until the last has arrived.
struct InFlight {
  Packed sent, received;
  Pending pending;
};

}  // namespace

Pending start_halo(const HaloPlan& plan, const HaloRows& x, TensorView halo, Communicator& ranks,
                   const Stream& stream) {
  const auto flight = std::make_shared<InFlight>(Packed(plan.sends, &RowMove::receiver, x.a, stream),
                                                 Packed(plan.receives, &RowMove::sender, x.a, stream), Pending());
  copy_rows(stream, {.x = x.a, .ranges = packing(plan.sends, &RowRange::from), .y = flight->sent.rows()});
  if (x.b.present()) {
    const Tensor b(stream, x.b.dtype, flight->sent.rows().shape);
    copy_rows(stream, {.x = x.b, .ranges = packing(plan.sends, &RowRange::from), .y = b});
    multiply(stream, {.a = flight->sent.rows(), .b = b, .y = flight->sent.rows()});
  }
  fill(stream, {.value = 0, .y = halo});
  std::vector<Transfer> transfers;
  flight->sent.add_sends(transfers);
  flight->received.add_receives(transfers);
  flight->pending = ranks.start(transfers, stream);
  return Pending([flight, &plan, halo, stream] {
    flight->pending.wait();
    copy_rows(stream, {.x = flight->received.rows(), .ranges = unpacking(plan.receives, &RowRange::to), .y = halo});
  });
}

Pending start_halo_adjoint(const HaloPlan& plan, TensorView halo_grad, const HaloRows& x, const HaloRows& x_grad,
                           Communicator& ranks, const Stream& stream) {
  const auto flight = std::make_shared<InFlight>(Packed(plan.receives, &RowMove::sender, halo_grad, stream),
                                                 Packed(plan.sends, &RowMove::receiver, x_grad.a, stream), Pending());
  copy_rows(stream, {.x = halo_grad, .ranges = packing(plan.receives, &RowRange::to), .y = flight->sent.rows()});
  std::vector<Transfer> transfers;
  flight->sent.add_sends(transfers);
  flight->received.add_receives(transfers);
  flight->pending = ranks.start(transfers, stream);
  return Pending([flight, &plan, x, x_grad, stream] {
    flight->pending.wait();
    const TensorView returned = flight->received.rows();
    for (const auto& [factor, gradient] : {std::pair(x.b, x_grad.a), std::pair(x.a, x_grad.b)}) {
      if (!gradient.present()) continue;
      if (!x.b.present()) {
        copy_rows(stream,
                  {.x = returned, .ranges = unpacking(plan.sends, &RowRange::from), .accumulate = true, .y = gradient});
        continue;
      }
      const Tensor rows(stream, factor.dtype, returned.shape);
      copy_rows(stream, {.x = factor, .ranges = packing(plan.sends, &RowRange::from), .y = rows});
      multiply(stream, {.a = returned, .b = rows, .y = rows});
      copy_rows(stream,
                {.x = rows, .ranges = unpacking(plan.sends, &RowRange::from), .accumulate = true, .y = gradient});
    }
  });
}

}  // namespace causeway

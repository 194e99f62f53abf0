#include "parallel/exchange/halo.hpp"

#include <memory>
#include <utility>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/reorder.hpp"

namespace causeway {
namespace {

/// The rows of some moves, packed one after the other. The moves are sorted by peer: the rows of each peer are
/// consecutive and are sent as one message.
class PackedRows {
 public:
  PackedRows(const std::vector<RowMove>& moves, int RowMove::*peer, DType dtype, std::int64_t columns,
             const Stream& stream) {
    std::int64_t rows = 0;
    for (const RowMove& move : moves) {
      if (parts_.empty() || parts_.back().peer != move.*peer) parts_.push_back({move.*peer, rows, 0});
      parts_.back().count += move.rows.count;
      rows += move.rows.count;
    }
    rows_ = Tensor(stream, dtype, {rows, columns});
  }

  TensorView rows() const { return rows_; }
  void add_sends(std::vector<Transfer>& transfers) const {
    for (const PeerRows& part : parts_) transfers.push_back({.peer = part.peer, .send = bytes(part)});
  }
  void add_receives(std::vector<Transfer>& transfers) const {
    for (const PeerRows& part : parts_) transfers.push_back({.peer = part.peer, .recv = bytes(part)});
  }

 private:
  struct PeerRows {
    int peer;
    std::int64_t begin, count;
  };
  std::span<std::byte> bytes(const PeerRows& part) const {
    return rows_.view().slice_rows(part.begin, part.count).as_bytes();
  }

  std::vector<PeerRows> parts_;
  Tensor rows_;
};

/// The copies from a tensor that holds the moved rows at row `at` (RowRange::from or ::to) to the packed rows.
std::vector<RowRange> to_packed(const std::vector<RowMove>& moves, std::int64_t RowRange::*at) {
  std::vector<RowRange> ranges;
  for (std::int64_t packed = 0; const RowMove& move : moves) {
    ranges.push_back({.from = move.rows.*at, .to = packed, .count = move.rows.count});
    packed += move.rows.count;
  }
  return ranges;
}

/// The copies from the packed rows back to that tensor.
std::vector<RowRange> from_packed(const std::vector<RowMove>& moves, std::int64_t RowRange::*at) {
  std::vector<RowRange> ranges = to_packed(moves, at);
  for (RowRange& range : ranges) std::swap(range.from, range.to);
  return ranges;
}

/// Keeps the packed rows alive until the exchange has finished.
struct HaloInFlight {
  PackedRows sent, received;
  Pending pending;
};

}  // namespace

Pending start_halo(const HaloPlan& plan, const FilterInput& x, TensorView halo, Communicator& ranks,
                   const Stream& stream) {
  const auto flight = std::make_shared<HaloInFlight>(
      PackedRows(plan.sends, &RowMove::receiver, x.a.dtype, x.columns(), stream),
      PackedRows(plan.receives, &RowMove::sender, x.a.dtype, x.columns(), stream), Pending());
  for (int i = 0; i < x.tensors(); ++i)
    copy_rows(stream, {.x = x.tensor(i),
                       .ranges = to_packed(plan.sends, &RowRange::from),
                       .y = x.columns_of_tensor(i, flight->sent.rows())});
  if (x.b.present()) {
    const Tensor b(stream, x.b.dtype, flight->sent.rows().shape);
    copy_rows(stream, {.x = x.b, .ranges = to_packed(plan.sends, &RowRange::from), .y = b});
    multiply(stream, {.a = flight->sent.rows(), .b = b, .y = flight->sent.rows()});
  }
  fill(stream, {.value = 0, .y = halo});
  std::vector<Transfer> transfers;
  flight->sent.add_sends(transfers);
  flight->received.add_receives(transfers);
  flight->pending = ranks.start(transfers, stream);
  return Pending([flight, &plan, halo, stream] {
    flight->pending.wait();
    copy_rows(stream, {.x = flight->received.rows(), .ranges = from_packed(plan.receives, &RowRange::to), .y = halo});
  });
}

Pending start_halo_adjoint(const HaloPlan& plan, TensorView d_halo, const FilterInput& x, const FilterInput& d_x,
                           Communicator& ranks, const Stream& stream) {
  const auto flight = std::make_shared<HaloInFlight>(
      PackedRows(plan.receives, &RowMove::sender, d_x.a.dtype, d_x.columns(), stream),
      PackedRows(plan.sends, &RowMove::receiver, d_x.a.dtype, d_x.columns(), stream), Pending());
  copy_rows(stream, {.x = d_halo, .ranges = to_packed(plan.receives, &RowRange::to), .y = flight->sent.rows()});
  std::vector<Transfer> transfers;
  flight->sent.add_sends(transfers);
  flight->received.add_receives(transfers);
  flight->pending = ranks.start(transfers, stream);
  return Pending([flight, &plan, x, d_x, stream] {
    flight->pending.wait();
    const TensorView returned = flight->received.rows();
    if (!x.b.present()) {
      for (int i = 0; i < d_x.tensors(); ++i)
        copy_rows(stream, {.x = d_x.columns_of_tensor(i, returned),
                           .ranges = from_packed(plan.sends, &RowRange::from),
                           .accumulate = true,
                           .y = d_x.tensor(i)});
      return;
    }
    for (const auto& [factor, gradient] : {std::pair(x.b, d_x.a), std::pair(x.a, d_x.b)}) {
      const Tensor rows(stream, factor.dtype, returned.shape);
      copy_rows(stream, {.x = factor, .ranges = to_packed(plan.sends, &RowRange::from), .y = rows});
      multiply(stream, {.a = returned, .b = rows, .y = rows});
      copy_rows(stream,
                {.x = rows, .ranges = from_packed(plan.sends, &RowRange::from), .accumulate = true, .y = gradient});
    }
  });
}

}  // namespace causeway

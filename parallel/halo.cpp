#include "parallel/halo.hpp"

#include <utility>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/reorder.hpp"

namespace causeway {
namespace {

/// The rows of some moves, packed one after the other, and the part of them that belongs to each peer.
class Packed {
 public:
  Packed(const std::vector<RowMove>& moves, int RowMove::* peer, TensorView like, const Stream& stream) {
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
  std::span<std::byte> bytes(const Part& part) const { return rows_.view().slice_rows(part.begin, part.count).as_bytes(); }

  std::vector<Part> parts_;
  Tensor rows_;
};

/// From a tensor that holds the moved rows at `at` to their packed copy.
std::vector<RowRange> packing(const std::vector<RowMove>& moves, std::int64_t RowRange::* at) {
  std::vector<RowRange> ranges;
  for (std::int64_t packed = 0; const RowMove& move : moves) {
    ranges.push_back({.from = move.rows.*at, .to = packed, .count = move.rows.count});
    packed += move.rows.count;
  }
  return ranges;
}

/// And back.
std::vector<RowRange> unpacking(const std::vector<RowMove>& moves, std::int64_t RowRange::* at) {
  std::vector<RowRange> ranges = packing(moves, at);
  for (RowRange& range : ranges) std::swap(range.from, range.to);
  return ranges;
}

}  // namespace

void halo_forward(const HaloPlan& plan, TensorView x, TensorView halo, Communicator& ranks, const Stream& stream) {
  const Packed sent(plan.sends, &RowMove::receiver, x, stream), received(plan.receives, &RowMove::sender, x, stream);
  copy_rows(stream, {.x = x, .ranges = packing(plan.sends, &RowRange::from), .y = sent.rows()});
  std::vector<Transfer> transfers;
  sent.add_sends(transfers);
  received.add_receives(transfers);
  ranks.exchange(transfers, stream);
  fill(stream, {.value = 0, .y = halo});
  copy_rows(stream, {.x = received.rows(), .ranges = unpacking(plan.receives, &RowRange::to), .y = halo});
}

void halo_backward(const HaloPlan& plan, TensorView halo_grad, TensorView x_grad, Communicator& ranks, const Stream& stream) {
  const Packed returned(plan.receives, &RowMove::sender, halo_grad, stream), received(plan.sends, &RowMove::receiver, x_grad, stream);
  copy_rows(stream, {.x = halo_grad, .ranges = packing(plan.receives, &RowRange::to), .y = returned.rows()});
  std::vector<Transfer> transfers;
  returned.add_sends(transfers);
  received.add_receives(transfers);
  ranks.exchange(transfers, stream);
  copy_rows(stream, {.x = received.rows(), .ranges = unpacking(plan.sends, &RowRange::from), .accumulate = true, .y = x_grad});
}

}  // namespace causeway

#include "parallel/exchange/flat_parts.hpp"

#include "kernels/activation.hpp"

namespace causeway {
namespace {

TensorView part_of(TensorView whole, int rank, int ranks) {
  const std::int64_t each = whole.size() / ranks;
  return whole.slice_rows(rank * each, each);
}

void ensure_parts_fit(std::span<const FlatParts> buffers, int ranks) {
  for (const FlatParts& buffer : buffers)
    ensure(buffer.whole.dense() && buffer.part.dense() && buffer.whole.dtype == buffer.part.dtype &&
               buffer.whole.size() == buffer.part.size() * ranks,
           "flat parts: {} {} of {} {} on {} ranks", name_of(buffer.part.dtype), buffer.part.shape.to_string(),
           name_of(buffer.whole.dtype), buffer.whole.shape.to_string(), ranks);
}

}  // namespace

Pending start_gather_of_parts(std::span<const FlatParts> buffers, Communicator& ranks, const Stream& stream) {
  ensure_parts_fit(buffers, ranks.size());
  std::vector<Transfer> transfers;
  for (const FlatParts& buffer : buffers)
    for (int peer = 0; peer < ranks.size(); ++peer)
      transfers.push_back(
          {.peer = peer, .send = buffer.part.as_bytes(), .recv = part_of(buffer.whole, peer, ranks.size()).as_bytes()});
  return ranks.start(transfers, stream);
}

SumOfParts::SumOfParts(std::span<const FlatParts> buffers, Communicator& ranks, const Stream& stream)
    : buffers_(buffers.begin(), buffers.end()), rank_(ranks.rank()) {
  ensure_parts_fit(buffers, ranks.size());
  std::vector<Transfer> transfers;
  for (const FlatParts& buffer : buffers) {
    const TensorView rows =
        received_.emplace_back(stream, buffer.part.dtype, Shape({ranks.size(), buffer.part.size()}));
    for (int peer = 0; peer < ranks.size(); ++peer)
      if (peer != rank_)
        transfers.push_back({.peer = peer,
                             .send = part_of(buffer.whole, peer, ranks.size()).as_bytes(),
                             .recv = rows.slice_rows(peer, 1).as_bytes()});
  }
  pending_ = ranks.start(transfers, stream);
}

void SumOfParts::finish(bool add, const Stream& stream) {
  pending_.wait();
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    const auto& [whole, part] = buffers_[i];
    const TensorView rows = received_[i];
    const int ranks = static_cast<int>(rows.rows());
    const auto of_rank = [&](int rank) {
      return rank == rank_ ? part_of(whole, rank, ranks) : rows.slice_rows(rank, 1).reshaped({part.size()});
    };
    const TensorView total = rows.slice_rows(0, 1).reshaped({part.size()});
    if (rank_ == 0) stream.copy(total.data, of_rank(0).data, total.bytes());
    for (int rank = 1; rank < ranks; ++rank) scale(stream, {.x = of_rank(rank), .accumulate = true, .y = total});
    scale(stream, {.x = total, .accumulate = add, .y = part});
  }
  *this = {};
}

}  // namespace causeway

#include "parallel/exchange/flat_parts.hpp"

#include <algorithm>

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

SumOfParts::SumOfParts(std::span<const FlatParts> buffers, Communicator& ranks, const Stream& stream,
                       std::optional<DType> reduce_dtype)
    : rank_(ranks.rank()) {
  ensure_parts_fit(buffers, ranks.size());
  std::vector<Transfer> transfers;
  for (const auto& [whole, part] : buffers) {
    const DType dtype = reduce_dtype.value_or(whole.dtype);
    Buffer& buffer = buffers_.emplace_back(Buffer{.part = part,
                                                  .own = part_of(whole, rank_, ranks.size()),
                                                  .received = Tensor(stream, dtype, {ranks.size(), part.size()}),
                                                  .sent = {},
                                                  .own_copy = {}});
    if (dtype != whole.dtype) {
      buffer.sent = Tensor(stream, dtype, {whole.size()});
      scale(stream, {.x = whole, .y = buffer.sent});
      buffer.own_copy = Tensor(stream, whole.dtype, {part.size()});
      stream.copy(buffer.own_copy.view().data, buffer.own.data, buffer.own.bytes());
      buffer.own = buffer.own_copy;
    }
    const TensorView sent = buffer.sent.present() ? buffer.sent : whole;
    for (int peer = 0; peer < ranks.size(); ++peer)
      if (peer != rank_)
        transfers.push_back({.peer = peer,
                             .send = part_of(sent, peer, ranks.size()).as_bytes(),
                             .recv = buffer.received.view().slice_rows(peer, 1).as_bytes()});
  }
  pending_ = ranks.start(transfers, stream);
}

void SumOfParts::finish(bool add, const Stream& stream) {
  pending_.wait();
  for (const auto& [part, own, received, sent, own_copy] : buffers_)
    sum_of_rank_parts(stream, {.received = received, .own = own, .rank = rank_, .accumulate = add, .y = part});
  *this = {};
}

bool SumOfParts::reads_buffers() const {
  return std::ranges::any_of(buffers_, [](const Buffer& buffer) { return !buffer.sent.present(); });
}

std::int64_t bytes_of_sum(std::int64_t elements, DType dtype, int ranks, std::optional<DType> reduce_dtype) {
  if (reduce_dtype.value_or(dtype) == dtype) return elements * size_of(dtype);
  return 2 * elements * size_of(*reduce_dtype) + elements / ranks * size_of(dtype);  // sent, received; own
}

}  // namespace causeway

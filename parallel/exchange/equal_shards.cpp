#include "parallel/exchange/equal_shards.hpp"

#include <vector>

#include "kernels/activation.hpp"
#include "parallel/exchange/row_copies.hpp"

namespace causeway {
namespace {

/// A dense copy of some rows, for a message.
Tensor packed(TensorView rows, const Stream& stream) {
  Tensor copy(stream, rows.dtype, rows.shape);
  copy_all_rows(stream, rows, copy);
  return copy;
}

void ensure_shards_fit(const SpanPlan& plan, TensorView local, std::span<const TensorView> shards) {
  ensure(shards.size() == plan.spanning.size(), "equal shards: {} tensors for {} documents", shards.size(),
         plan.spanning.size());
  for (std::size_t i = 0; i < shards.size(); ++i)
    ensure(shards[i].dense() && shards[i].dtype == local.dtype &&
               shards[i].shape == Shape({plan.spanning[i].shard(), local.columns()}),
           "equal shard: a tensor {} of {}, expected {} rows like {} of {}", shards[i].shape.to_string(),
           name_of(shards[i].dtype), plan.spanning[i].shard(), local.shape.to_string(), name_of(local.dtype));
}

}  // namespace

void to_equal_shards(const SpanPlan& plan, TensorView local, std::span<const TensorView> shards, Communicator& ranks,
                     const Stream& stream) {
  ensure_shards_fit(plan, local, shards);
  std::vector<Transfer> transfers;
  std::vector<Tensor> sent;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const SpanningDocument& document = plan.spanning[i];
    fill(stream, {.value = 0, .y = shards[i]});
    for (const RowMove& move : document.sends) {
      if (move.receiver == move.sender)
        copy_rows(stream, {.x = local, .ranges = {&move.rows, 1}, .y = shards[i]});
      else
        transfers.push_back(
            {.peer = move.receiver,
             .send = sent.emplace_back(packed(local.slice_rows(move.rows.from, move.rows.count), stream))
                         .view()
                         .as_bytes()});
    }
    for (const RowMove& move : document.receives)
      if (move.receiver != move.sender)
        transfers.push_back(
            {.peer = move.sender, .recv = shards[i].slice_rows(move.rows.to, move.rows.count).as_bytes()});
  }
  ranks.exchange(transfers, stream);
}

void from_equal_shards(const SpanPlan& plan, std::span<const TensorView> shards, TensorView local, Communicator& ranks,
                       const Stream& stream) {
  ensure_shards_fit(plan, local, shards);
  struct Received {
    Tensor rows;
    std::int64_t first_local_row;
  };
  std::vector<Transfer> transfers;
  std::vector<Received> received;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const SpanningDocument& document = plan.spanning[i];
    for (const RowMove& move : document.receives)
      if (move.receiver != move.sender)
        transfers.push_back(
            {.peer = move.sender, .send = shards[i].slice_rows(move.rows.to, move.rows.count).as_bytes()});
    for (const RowMove& move : document.sends) {
      if (move.receiver == move.sender) {
        copy_all_rows(stream, shards[i].slice_rows(move.rows.to, move.rows.count),
                      local.slice_rows(move.rows.from, move.rows.count));
        continue;
      }
      received.push_back({Tensor(stream, local.dtype, local.shape.with_rows(move.rows.count)), move.rows.from});
      transfers.push_back({.peer = move.receiver, .recv = received.back().rows.view().as_bytes()});
    }
  }
  ranks.exchange(transfers, stream);
  for (const Received& part : received)
    copy_all_rows(stream, part.rows, local.slice_rows(part.first_local_row, part.rows.view().rows()));
}

}  // namespace causeway

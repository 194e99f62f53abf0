#include "parallel/layout/spanning.hpp"

#include <algorithm>

#include "kernels/activation.hpp"
#include "kernels/reorder.hpp"

namespace causeway {
namespace {

Range intersection(const Range& a, const Range& b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

SpanningDocument plan_document(const ShardLayout& layout, const Range& tokens, int rank) {
  SpanningDocument document{.tokens = tokens, .ranks = {}, .position = 0, .sends = {}, .receives = {}};
  for (int c = 0; c < layout.ranks(); ++c) {
    if (intersection(layout.chunk(c), tokens).size() == 0) continue;
    if (c == rank) document.position = static_cast<int>(std::ssize(document.ranks));
    document.ranks.push_back(c);
  }
  const auto shard_of = [&](std::int64_t position) {
    const std::int64_t begin = tokens.begin + position * document.shard();
    return intersection({begin, begin + document.shard()}, tokens);
  };
  const Range held = layout.chunk(rank), shard = shard_of(document.position);
  for (std::int64_t position = 0; position < std::ssize(document.ranks); ++position) {
    const int peer = document.ranks[static_cast<std::size_t>(position)];
    const Range theirs = layout.chunk(peer), their_shard = shard_of(position);
    if (const Range rows = intersection(held, their_shard); rows.size() > 0)
      document.sends.push_back(
          {.sender = rank,
           .receiver = peer,
           .rows = {.from = rows.begin - held.begin, .to = rows.begin - their_shard.begin, .count = rows.size()}});
    if (const Range rows = intersection(theirs, shard); rows.size() > 0)
      document.receives.push_back(
          {.sender = peer,
           .receiver = rank,
           .rows = {.from = rows.begin - theirs.begin, .to = rows.begin - shard.begin, .count = rows.size()}});
  }
  return document;
}

std::int64_t rows_to_others(const std::vector<RowMove>& moves) {
  std::int64_t rows = 0;
  for (const RowMove& move : moves)
    if (move.sender != move.receiver) rows += move.rows.count;
  return rows;
}

/// A copy of some rows, dense, for a message.
Tensor packed(TensorView rows, const Stream& stream) {
  Tensor copy(stream, rows.dtype, rows.shape);
  const RowRange all[] = {{.from = 0, .to = 0, .count = rows.rows()}};
  copy_rows(stream, {.x = rows, .ranges = all, .y = copy});
  return copy;
}

void expect_shards(const SpanPlan& plan, TensorView local, std::span<const TensorView> shards) {
  ensure(shards.size() == plan.spanning.size(), "{} shards of {} documents", shards.size(), plan.spanning.size());
  for (std::size_t i = 0; i < shards.size(); ++i)
    ensure(shards[i].dense() && shards[i].dtype == local.dtype &&
               shards[i].shape == Shape({plan.spanning[i].shard(), local.columns()}),
           "a shard {} of {} for {} rows of {}", shards[i].shape.to_string(), name_of(shards[i].dtype),
           plan.spanning[i].shard(), local.shape.to_string());
}

}  // namespace

std::int64_t SpanningDocument::rows_sent() const { return rows_to_others(sends); }
std::int64_t SpanningDocument::rows_sent_back() const { return rows_to_others(receives); }

SpanPlan plan_spans(const ShardLayout& layout, const Segments& segments, int rank) {
  ensure(layout.kind() == Layout::contiguous, "documents over ranks in layout {}", name_of(layout.kind()));
  const Range held = layout.chunk(rank);
  SpanPlan plan{.spanning = {}, .within = {0, held.size()}};
  if (held.size() == 0) return plan;
  const auto document_of = [&](std::int64_t t) { return Range{segments.start_of(t), segments.end_of(t)}; };
  const Range first = document_of(held.begin), last = document_of(held.end - 1);
  if (first.begin < held.begin || first.end > held.end) {
    plan.spanning.push_back(plan_document(layout, first, rank));
    plan.within.begin = std::min(first.end, held.end) - held.begin;
  }
  if (last.end > held.end && last != first) {
    plan.spanning.push_back(plan_document(layout, last, rank));
    plan.within.end = last.begin - held.begin;
  }
  return plan;
}

void onto_equal_shards(const SpanPlan& plan, TensorView local, std::span<const TensorView> shards, Communicator& ranks,
                       const Stream& stream) {
  expect_shards(plan, local, shards);
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
  expect_shards(plan, local, shards);
  struct Received {
    Tensor rows;
    std::int64_t to;
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
        const RowRange back[] = {{.from = move.rows.to, .to = move.rows.from, .count = move.rows.count}};
        copy_rows(stream, {.x = shards[i], .ranges = back, .y = local});
        continue;
      }
      received.push_back({Tensor(stream, local.dtype, local.shape.with_rows(move.rows.count)), move.rows.from});
      transfers.push_back({.peer = move.receiver, .recv = received.back().rows.view().as_bytes()});
    }
  }
  ranks.exchange(transfers, stream);
  for (const Received& part : received) {
    const RowRange all[] = {{.from = 0, .to = part.to, .count = part.rows.view().rows()}};
    copy_rows(stream, {.x = part.rows, .ranges = all, .y = local});
  }
}

}  // namespace causeway

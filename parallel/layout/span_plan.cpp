#include "parallel/layout/span_plan.hpp"

#include <algorithm>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

Range intersection(const Range& a, const Range& b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

/// The moves of one document between the ranks that hold some of it.
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

}  // namespace

std::int64_t SpanningDocument::rows_sent() const { return rows_to_others(sends); }
std::int64_t SpanningDocument::rows_sent_back() const { return rows_to_others(receives); }

SpanPlan plan_spans(const ShardLayout& layout, const Segments& segments, int rank) {
  ensure(layout.kind() == Layout::contiguous, "span plan of layout {}, expected contiguous", name_of(layout.kind()));
  const Range held = layout.chunk(rank);
  SpanPlan plan{.spanning = {}, .unshared_rows = {0, held.size()}};
  if (held.size() == 0) return plan;
  const auto document_of = [&](std::int64_t t) { return Range{segments.start_of(t), segments.end_of(t)}; };
  const Range first = document_of(held.begin), last = document_of(held.end - 1);
  if (first.begin < held.begin || first.end > held.end) {
    plan.spanning.push_back(plan_document(layout, first, rank));
    plan.unshared_rows.begin = std::min(first.end, held.end) - held.begin;
  }
  if (last.end > held.end && last != first) {
    plan.spanning.push_back(plan_document(layout, last, rank));
    plan.unshared_rows.end = last.begin - held.begin;
  }
  return plan;
}

}  // namespace causeway

#include "parallel/layout/carry_plan.hpp"

namespace causeway {

CarryPlan plan_carry(const ShardLayout& layout, const Segments& segments) {
  // An edge between chunks: whether tokens t-1 and t belong to the same document, and where that begins.
  struct Edge {
    bool crossed = false;
    std::int64_t start = 0;
  };
  const auto edge_at = [&](std::int64_t t) -> Edge {
    if (t == 0 || t == segments.tokens()) return {};
    const std::int64_t start = segments.start_of(t);
    return {start < t, start};
  };
  CarryPlan plan;
  plan.chunks.reserve(static_cast<std::size_t>(layout.chunk_count()));
  Edge left;
  for (int c = 0; c < layout.chunk_count(); ++c) {
    const Edge right = edge_at(layout.chunk(c).end);
    plan.chunks.push_back({.from_left = left.crossed,
                           .to_right = right.crossed,
                           .one_document = left.crossed && right.crossed && left.start == right.start});
    left = right;
  }
  return plan;
}

}  // namespace causeway

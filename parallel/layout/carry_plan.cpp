#include "parallel/layout/carry_plan.hpp"

namespace causeway {

CarryPlan plan_carry(const ShardLayout& layout, const Segments& segments) {
  // Whether tokens t-1 and t belong to the same document.
  const auto crossed = [&](std::int64_t t) { return t > 0 && t < segments.tokens() && segments.start_of(t) < t; };
  CarryPlan plan;
  for (int c = 0; c < layout.chunk_count(); ++c) {
    const Range chunk = layout.chunk(c);
    CarryPlan::ChunkEdges edges{.from_left = crossed(chunk.begin), .to_right = crossed(chunk.end)};
    edges.one_document =
        edges.from_left && edges.to_right && segments.start_of(chunk.begin) == segments.start_of(chunk.end);
    plan.chunks.push_back(edges);
  }
  return plan;
}

}  // namespace causeway

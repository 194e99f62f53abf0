#include "parallel/layout/exchange_plan.hpp"

#include <algorithm>
#include <tuple>

namespace causeway {

HaloPlan plan_halo(const ShardLayout& layout, const Segments& segments, std::int64_t reach, int rank) {
  HaloPlan plan{.reach = reach};
  for (int c = 0; c < layout.chunk_count(); ++c) {
    const Range chunk = layout.chunk(c);
    if (chunk.size() == 0) continue;
    const int receiver = layout.owner(c);
    const std::int64_t first_halo_row = c < layout.ranks() ? 0 : reach;  // a rank's second chunk has the second part
    const std::int64_t wanted = std::max(segments.start_of(chunk.begin), chunk.begin - reach);
    for (int from = c - 1; from >= 0 && layout.chunk(from).end > wanted; --from) {
      const Range held = layout.chunk(from);
      const int sender = layout.owner(from);
      if (held.size() == 0 || (sender != rank && receiver != rank)) continue;
      const std::int64_t begin = std::max(held.begin, wanted);
      const RowMove move{sender,
                         receiver,
                         {.from = layout.local_offset(from) + begin - held.begin,
                          .to = first_halo_row + reach - (chunk.begin - begin),
                          .count = held.end - begin}};
      if (sender == rank) plan.sends.push_back(move);
      if (receiver == rank) plan.receives.push_back(move);
    }
  }
  std::ranges::sort(plan.sends, {}, [](const RowMove& move) { return std::tuple(move.receiver, move.rows.to); });
  std::ranges::sort(plan.receives, {}, [](const RowMove& move) { return std::tuple(move.sender, move.rows.to); });
  return plan;
}

CarryPlan plan_carry(const ShardLayout& layout, const Segments& segments) {
  // Does a document go over the edge between tokens t-1 and t?
  const auto crossed = [&](std::int64_t t) { return t > 0 && t < segments.tokens() && segments.start_of(t) < t; };
  CarryPlan plan;
  for (int c = 0; c < layout.chunk_count(); ++c) {
    const Range chunk = layout.chunk(c);
    CarryPlan::Edge edge{.from_left = crossed(chunk.begin), .to_right = crossed(chunk.end)};
    edge.whole = edge.from_left && edge.to_right && segments.start_of(chunk.begin) == segments.start_of(chunk.end);
    plan.chunks.push_back(edge);
  }
  return plan;
}

}  // namespace causeway

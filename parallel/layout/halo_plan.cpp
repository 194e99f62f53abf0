#include "parallel/layout/halo_plan.hpp"

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
    const std::int64_t first_token = std::max(segments.start_of(chunk.begin), chunk.begin - reach);
    for (int source = c - 1; source >= 0 && layout.chunk(source).end > first_token; --source) {
      const Range held = layout.chunk(source);
      const int sender = layout.owner(source);
      if (held.size() == 0 || (sender != rank && receiver != rank)) continue;
      const std::int64_t begin = std::max(held.begin, first_token);
      const RowMove move{sender,
                         receiver,
                         {.from = layout.first_local_row(source) + begin - held.begin,
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

}  // namespace causeway

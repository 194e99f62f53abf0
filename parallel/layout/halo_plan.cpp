#include "parallel/layout/halo_plan.hpp"

#include <algorithm>
#include <optional>
#include <tuple>

namespace causeway {

namespace {

/// The rows of chunk `source` that chunk c sees before its first token, if there are any.
std::optional<RowMove> move_between(const ShardLayout& layout, const Segments& segments, std::int64_t reach, int source,
                                    int c) {
  const Range chunk = layout.chunk(c), held = layout.chunk(source);
  if (chunk.size() == 0 || held.size() == 0) return std::nullopt;
  const std::int64_t first_token = std::max(segments.start_of(chunk.begin), chunk.begin - reach);
  if (held.end <= first_token) return std::nullopt;
  const std::int64_t begin = std::max(held.begin, first_token);
  const std::int64_t first_halo_row = c < layout.ranks() ? 0 : reach;  // a rank's second chunk has the second part
  return RowMove{layout.owner(source),
                 layout.owner(c),
                 {.from = layout.first_local_row(source) + begin - held.begin,
                  .to = first_halo_row + reach - (chunk.begin - begin),
                  .count = held.end - begin}};
}

}  // namespace

/// Looks only at chunks within `reach` of the rank's own, so that the time does not depend on the number of ranks.
HaloPlan plan_halo(const ShardLayout& layout, const Segments& segments, std::int64_t reach, int rank) {
  HaloPlan plan{.reach = reach};
  for (const int own : layout.chunks_of(rank)) {
    const Range held = layout.chunk(own);
    for (int source = own - 1; source >= 0 && layout.chunk(source).end > held.begin - reach; --source)
      if (const auto move = move_between(layout, segments, reach, source, own)) plan.receives.push_back(*move);
    for (int c = own + 1; c < layout.chunk_count() && layout.chunk(c).begin - reach < held.end; ++c)
      if (const auto move = move_between(layout, segments, reach, own, c)) plan.sends.push_back(*move);
  }
  std::ranges::sort(plan.sends, {}, [](const RowMove& move) { return std::tuple(move.receiver, move.rows.to); });
  std::ranges::sort(plan.receives, {}, [](const RowMove& move) { return std::tuple(move.sender, move.rows.to); });
  return plan;
}

}  // namespace causeway

#include "parallel/sharding.hpp"

#include "kernels/error.hpp"

namespace causeway {

Sharding::Sharding(ShardLayout layout, Segments segments, int rank)
    : layout_(layout), segments_(std::move(segments)), rank_(rank), carry_(plan_carry(layout_, segments_)) {
  require(layout_.tokens() == segments_.tokens(), "a layout of {} tokens for documents of {} tokens", layout_.tokens(),
          segments_.tokens());
  require(rank >= 0 && rank < layout_.ranks(), "rank {} in a layout over {} ranks", rank, layout_.ranks());
  for (const int c : layout_.chunks_of(rank)) {
    const Range tokens = layout_.chunk(c);
    chunks_.push_back({.number = c,
                       .tokens = tokens,
                       .offset = layout_.local_offset(c),
                       .cu_seqlens = segments_.slice(tokens.begin, tokens.end)});
  }
}

const Chunk& Sharding::part(const Chunk& of, std::int64_t begin, std::int64_t end) const {
  const Range tokens{of.tokens.begin + begin, of.tokens.begin + end};
  ensure(0 <= begin && begin <= end && tokens.end <= of.tokens.end, "rows [{}, {}) of a chunk of {}", begin, end,
         of.tokens.size());
  const auto [place, fresh] = runs_.try_emplace({tokens.begin, tokens.end});
  if (fresh)
    place->second = {.number = of.number,
                     .tokens = tokens,
                     .offset = of.offset + begin,
                     .cu_seqlens = segments_.slice(tokens.begin, tokens.end)};
  return place->second;
}

const Chunk& Sharding::whole() const {
  // Apart from a rank's own chunk that holds all tokens: its first row may be another.
  const auto [place, fresh] = runs_.try_emplace({-1, -1});
  if (fresh) place->second = {.tokens = {0, segments_.tokens()}, .cu_seqlens = segments_.slice(0, segments_.tokens())};
  return place->second;
}

const HaloPlan& Sharding::halo(std::int64_t reach) const {
  const auto found = halos_.find(reach);
  return found != halos_.end() ? found->second
                               : halos_.emplace(reach, plan_halo(layout_, segments_, reach, rank_)).first->second;
}

const SpanPlan& Sharding::spans() const {
  if (!spans_) spans_ = plan_spans(layout_, segments_, rank_);
  return *spans_;
}

}  // namespace causeway

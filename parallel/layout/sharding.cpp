#include "parallel/layout/sharding.hpp"

#include <algorithm>

#include "kernels/core/error.hpp"

namespace causeway {

Sharding::Sharding(ShardLayout layout, Segments segments, int rank, const Stream& stream)
    : layout_(layout),
      segments_(std::move(segments)),
      rank_(rank),
      stream_(stream),
      carry_(plan_carry(layout_, segments_)) {
  require(layout_.tokens() == segments_.tokens(), "a layout of {} tokens for documents of {} tokens", layout_.tokens(),
          segments_.tokens());
  require(rank >= 0 && rank < layout_.ranks(), "rank {} in a layout over {} ranks", rank, layout_.ranks());
  for (const int c : layout_.chunks_of(rank)) chunks_.push_back(run_of(c, layout_.chunk(c), layout_.local_offset(c)));
}

void Sharding::ensure_of(int rank, int ranks) const {
  ensure(rank == rank_ && ranks == layout_.ranks(), "a sharding of rank {} of {} on rank {} of {}", rank_,
         layout_.ranks(), rank, ranks);
}

Chunk Sharding::run_of(int number, Range tokens, std::int64_t offset) const {
  Chunk run{.number = number,
            .tokens = tokens,
            .offset = offset,
            .documents = {stream_, segments_.slice(tokens.begin, tokens.end), tokens.size()}};
  const auto cu_seqlens = run.cu_seqlens();
  for (std::size_t s = 1; s < cu_seqlens.size(); ++s)
    run.longest_document = std::max(run.longest_document, cu_seqlens[s] - cu_seqlens[s - 1]);
  return run;
}

const Chunk& Sharding::part(const Chunk& of, std::int64_t begin, std::int64_t end) const {
  const Range tokens{of.tokens.begin + begin, of.tokens.begin + end};
  ensure(0 <= begin && begin <= end && tokens.end <= of.tokens.end, "rows [{}, {}) of a chunk of {}", begin, end,
         of.tokens.size());
  const auto [place, fresh] = runs_.try_emplace({tokens.begin, tokens.end});
  if (fresh) place->second = run_of(of.number, tokens, of.offset + begin);
  return place->second;
}

const Chunk& Sharding::whole() const {
  // Apart from a rank's own chunk that holds all tokens: its first row may be another.
  const auto [place, fresh] = runs_.try_emplace({-1, -1});
  if (fresh) place->second = run_of(0, {0, segments_.tokens()}, 0);
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

#include "parallel/layout/sharding.hpp"

#include <algorithm>

#include "kernels/core/error.hpp"

namespace causeway {

Sharding::Sharding(ShardLayout layout, Segments segments, int rank, const Stream& stream)
    : layout_(layout),
      segments_(std::move(segments)),
      rank_(rank),
      stream_(stream),
      carry_plan_(plan_carry(layout_, segments_)) {
  require(layout_.tokens() == segments_.tokens(), "sharding: the layout has {} tokens, the documents have {}",
          layout_.tokens(), segments_.tokens());
  require(rank >= 0 && rank < layout_.ranks(), "sharding: rank {} in a layout of {} ranks", rank, layout_.ranks());
  for (const int c : layout_.chunks_of(rank))
    chunks_.push_back(make_chunk(c, layout_.chunk(c), layout_.first_local_row(c)));
}

void Sharding::ensure_rank(int rank, int ranks) const {
  ensure(rank == rank_ && ranks == layout_.ranks(), "the sharding of rank {} of {} is used on rank {} of {}", rank_,
         layout_.ranks(), rank, ranks);
}

Chunk Sharding::make_chunk(int index, Range tokens, std::int64_t first_row) const {
  Chunk chunk{.index = index,
              .tokens = tokens,
              .first_row = first_row,
              .documents = {stream_, segments_.slice(tokens.begin, tokens.end), tokens.size()}};
  const auto cu_seqlens = chunk.cu_seqlens();
  for (std::size_t s = 1; s < cu_seqlens.size(); ++s)
    chunk.longest_document = std::max(chunk.longest_document, cu_seqlens[s] - cu_seqlens[s - 1]);
  return chunk;
}

const Chunk& Sharding::sub_chunk(const Chunk& chunk, std::int64_t begin, std::int64_t end) const {
  const Range tokens{chunk.tokens.begin + begin, chunk.tokens.begin + end};
  ensure(0 <= begin && begin <= end && tokens.end <= chunk.tokens.end, "rows [{}, {}) of a chunk of {} rows", begin,
         end, chunk.tokens.size());
  const auto [entry, inserted] = sub_chunks_.try_emplace({tokens.begin, tokens.end});
  if (inserted) entry->second = make_chunk(chunk.index, tokens, chunk.first_row + begin);
  return entry->second;
}

const Chunk& Sharding::whole_pack() const {
  if (!whole_pack_) whole_pack_ = make_chunk(0, {0, segments_.tokens()}, 0);
  return *whole_pack_;
}

const HaloPlan& Sharding::halo_plan(std::int64_t reach) const {
  const auto found = halo_plans_.find(reach);
  if (found != halo_plans_.end()) return found->second;
  return halo_plans_.emplace(reach, plan_halo(layout_, segments_, reach, rank_)).first->second;
}

const SpanPlan& Sharding::span_plan() const {
  if (!span_plan_) span_plan_ = plan_spans(layout_, segments_, rank_);
  return *span_plan_;
}

}  // namespace causeway

#include "parallel/sharding.hpp"

#include "kernels/error.hpp"

namespace causeway {

Sharding::Sharding(ShardLayout layout, Segments segments, int rank)
    : layout_(layout), segments_(std::move(segments)), rank_(rank), carry_(plan_carry(layout_, segments_)) {
  require(layout_.tokens() == segments_.tokens(), "a layout of {} tokens for documents of {} tokens", layout_.tokens(), segments_.tokens());
  require(rank >= 0 && rank < layout_.ranks(), "rank {} in a layout over {} ranks", rank, layout_.ranks());
  for (const int c : layout_.chunks_of(rank)) {
    const Range tokens = layout_.chunk(c);
    chunks_.push_back({.number = c, .tokens = tokens, .offset = layout_.local_offset(c), .cu_seqlens = segments_.slice(tokens.begin, tokens.end)});
  }
}

const HaloPlan& Sharding::halo(std::int64_t reach) const {
  const auto found = halos_.find(reach);
  return found != halos_.end() ? found->second : halos_.emplace(reach, plan_halo(layout_, segments_, reach, rank_)).first->second;
}

}  // namespace causeway

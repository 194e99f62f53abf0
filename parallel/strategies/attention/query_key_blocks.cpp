#include "parallel/strategies/attention/query_key_blocks.hpp"

#include <algorithm>

namespace causeway::attention {

std::vector<QueryKeyBlock> query_key_blocks(const Sharding& sharding, int owner) {
  const ShardLayout& layout = sharding.layout();
  std::vector<QueryKeyBlock> pairs;
  for (const Chunk& chunk : sharding.chunks()) {
    const Range& queries = chunk.tokens;
    if (queries.size() == 0) continue;
    if (owner == sharding.rank()) pairs.push_back({chunk, queries, chunk.first_row});
    const std::int64_t document = queries.begin + chunk.cu_seqlens()[0];
    for (const int number : layout.chunks_of(owner)) {
      const Range keys = layout.chunk(number);
      if (number >= chunk.index || keys.size() == 0 || keys.end <= document) continue;
      pairs.push_back({sharding.sub_chunk(chunk, 0, std::min(chunk.cu_seqlens()[1], queries.size())), keys,
                       layout.first_local_row(number)});
    }
  }
  return pairs;
}

double visible_pairs(const Segments& segments, const Range& tokens) {
  const std::vector<std::int64_t> cu_seqlens = segments.slice(tokens.begin, tokens.end);
  const auto up_to = [](std::int64_t length) {
    return 0.5 * static_cast<double>(length) * static_cast<double>(length + 1);
  };
  double pairs = 0;
  for (std::size_t s = 0; s + 1 < cu_seqlens.size(); ++s) {
    const std::int64_t first = std::max<std::int64_t>(cu_seqlens[s], 0),
                       end = std::min(cu_seqlens[s + 1], tokens.size());
    pairs += up_to(end - cu_seqlens[s]) - up_to(first - cu_seqlens[s]);
  }
  return pairs;
}

double most_visible_pairs(const Sharding& sharding) {
  const ShardLayout& layout = sharding.layout();
  double most = 0;
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    double pairs = 0;
    for (const int chunk : layout.chunks_of(rank)) pairs += visible_pairs(sharding.segments(), layout.chunk(chunk));
    most = std::max(most, pairs);
  }
  return most;
}

}  // namespace causeway::attention

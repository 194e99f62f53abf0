#include "parallel/layout/shard_layout.hpp"

#include "kernels/core/error.hpp"

namespace causeway {

std::string_view name_of(Layout layout) { return layout == Layout::zigzag ? "zigzag" : "contiguous"; }

Layout parse_layout(std::string_view name) {
  for (const Layout layout : {Layout::contiguous, Layout::zigzag})
    if (name == name_of(layout)) return layout;
  fail(ExitCode::usage, "layout is '{}', expected contiguous or zigzag", name);
}

ShardLayout::ShardLayout(std::int64_t tokens, int ranks, Layout kind) : tokens_(tokens), ranks_(ranks), kind_(kind) {
  require(tokens >= 0 && ranks >= 1, "shard layout: {} tokens on {} ranks, expected at least 0 tokens and 1 rank",
          tokens, ranks);
}

Range ShardLayout::chunk(int c) const {
  // ⌊cT/C⌋, computed without the product cT, which may overflow.
  const auto edge = [whole = tokens_ / chunk_count(), rest = tokens_ % chunk_count(),
                     count = chunk_count()](std::int64_t index) { return index * whole + index * rest / count; };
  return {edge(c), edge(c + 1)};
}

int ShardLayout::owner(int c) const { return c < ranks_ ? c : 2 * ranks_ - 1 - c; }

std::vector<int> ShardLayout::chunks_of(int rank) const {
  if (kind_ == Layout::zigzag) return {rank, 2 * ranks_ - 1 - rank};
  return {rank};
}

std::int64_t ShardLayout::local_tokens(int rank) const {
  std::int64_t total = 0;
  for (const int c : chunks_of(rank)) total += chunk(c).size();
  return total;
}

std::int64_t ShardLayout::first_local_row(int c) const { return c < ranks_ ? 0 : chunk(owner(c)).size(); }

}  // namespace causeway

#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace causeway {

enum class Layout : std::uint8_t { contiguous, zigzag };

std::string_view name_of(Layout layout);
Layout parse_layout(std::string_view name);  ///< throws Error(usage)

/// Tokens [begin, end) of a pack.
struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// Which rank holds which tokens of a pack of T: chunk c of C holds ⌊cT/C⌋ … ⌊(c+1)T/C⌋. contiguous: C = N, rank r
/// holds chunk r; zigzag: C = 2N, rank r holds chunks r and 2N-1-r, in that order. T need not divide and may be smaller
/// than N.
class ShardLayout {
 public:
  ShardLayout(std::int64_t tokens, int ranks, Layout kind);

  std::int64_t tokens() const { return tokens_; }
  int ranks() const { return ranks_; }
  Layout kind() const { return kind_; }
  int chunk_count() const { return kind_ == Layout::zigzag ? 2 * ranks_ : ranks_; }
  Range chunk(int c) const;
  int owner(int c) const;                      ///< the rank that holds chunk c
  std::vector<int> chunks_of(int rank) const;  ///< ascending
  std::int64_t local_tokens(int rank) const;
  std::int64_t local_offset(int c) const;  ///< the row of its owner's local tensors at which chunk c begins

 private:
  std::int64_t tokens_;
  int ranks_;
  Layout kind_;
};

}  // namespace causeway

#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace causeway {

/// Index spaces. A pack of T tokens is cut into C chunks, which N ranks hold. Every index of parallel/ is one of:
///
///   token            0 … T-1       position in the whole pack ("global token")
///   chunk c          0 … C-1       a range of consecutive tokens, [chunk(c).begin, chunk(c).end)
///   rank-local row   0 … L-1       row of a tensor that one rank holds: its L tokens, chunk after chunk
///   chunk row        0 … size-1    token - chunk(c).begin
///   document row     0 … length-1  token - first token of its document
///
/// Names say which one is meant: `tokens`, `*_token` and Range are global tokens; `local`, `*_local_row` and
/// `first_row` are rank-local rows; cu_seqlens of a Chunk are chunk rows (kernels/core/segments.hpp has their legend).
///
/// Example: T = 16, N = 2, a document A of 6 tokens and a document B of 10.
///
///   token            0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
///   document         A  A  A  A  A  A  B  B  B  B  B  B  B  B  B  B
///   document row     0  1  2  3  4  5  0  1  2  3  4  5  6  7  8  9
///
///   contiguous, C=2 |        chunk 0        |        chunk 1        |
///   rank            |        rank 0         |        rank 1         |
///   rank-local row   0  1  2  3  4  5  6  7  0  1  2  3  4  5  6  7
///   chunk row        0  1  2  3  4  5  6  7  0  1  2  3  4  5  6  7
///
///   zigzag, C=4     |  chunk 0  |  chunk 1  |  chunk 2  |  chunk 3  |
///   rank            |  rank 0   |  rank 1   |  rank 1   |  rank 0   |
///   rank-local row   0  1  2  3  0  1  2  3  4  5  6  7  4  5  6  7
///   chunk row        0  1  2  3  0  1  2  3  0  1  2  3  0  1  2  3
///
/// zigzag gives each rank an early and a late chunk: with causal attention all ranks then have the same work.
enum class Layout : std::uint8_t { contiguous, zigzag };

std::string_view name_of(Layout layout);
Layout parse_layout(std::string_view name);  ///< throws Error(usage)

/// The half-open range [begin, end): of global tokens, unless the name says rows, columns, channels, groups or heads.
struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// Which rank holds which tokens of a pack. Chunk c of C holds tokens ⌊cT/C⌋ … ⌊(c+1)T/C⌋ - 1.
/// contiguous: C = N, rank r holds chunk r. zigzag: C = 2N, rank r holds chunks r and 2N-1-r, in that order.
/// T need not be divisible by C and may be smaller than N: then some chunks are empty.
class ShardLayout {
 public:
  ShardLayout(std::int64_t tokens, int ranks, Layout kind);  ///< throws Error(usage)

  std::int64_t tokens() const { return tokens_; }  ///< T
  int ranks() const { return ranks_; }             ///< N
  Layout kind() const { return kind_; }
  int chunk_count() const { return kind_ == Layout::zigzag ? 2 * ranks_ : ranks_; }  ///< C
  Range chunk(int c) const;                                                          ///< the tokens of chunk c
  int owner(int c) const;                                                            ///< the rank that holds chunk c
  std::vector<int> chunks_of(int rank) const;  ///< indices of the rank's chunks, ascending
  std::int64_t local_tokens(int rank) const;   ///< L: how many tokens the rank holds
  std::int64_t first_local_row(int c) const;   ///< the rank-local row, on its owner, at which chunk c begins

 private:
  std::int64_t tokens_;
  int ranks_;
  Layout kind_;
};

}  // namespace causeway

#include "kernels/cuda/attention/fused_calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

#include "kernels/core/segments.hpp"

namespace causeway::cuda {
namespace {

constexpr std::int64_t gigabytes = std::int64_t{1} << 30;

/// Some queries and some keys of a pack; the keys of all queries' documents by default.
struct Runs {
  std::vector<std::int64_t> cu_seqlens;
  std::int64_t tokens, keys, key_offset = 0, heads = 32;

  RunsOfAttention view() const {
    return {.segments = segments_view(cu_seqlens, tokens), .keys = keys, .key_offset = key_offset, .heads = heads};
  }
};

Runs whole_pack(std::vector<std::int64_t> lengths, std::int64_t heads = 32) {
  Runs runs{.cu_seqlens = {0}, .tokens = 0, .keys = 0, .heads = heads};
  for (const std::int64_t length : lengths) runs.cu_seqlens.push_back(runs.cu_seqlens.back() + length);
  runs.tokens = runs.keys = runs.cu_seqlens.back();
  return runs;
}

/// Whether query t of a run sees key j: the definition, in rows of the runs.
bool sees(const Runs& runs, std::int64_t t, std::int64_t j) {
  const auto document = std::upper_bound(runs.cu_seqlens.begin(), runs.cu_seqlens.end(), t) - 1;
  return j + runs.key_offset >= *document && j + runs.key_offset <= t;
}

bool sees(const DocumentPart& part, std::int64_t query, std::int64_t key) {
  if (part.mask == PairMask::all) return true;
  const std::int64_t before = part.mask == PairMask::causal_from_end ? part.keys - part.queries : 0;
  return key <= query + before;
}

/// Every pair of the documents that the calls compute is computed once for each head, and no other pair is.
void expect_each_pair_once(const Runs& runs, const FusedCalls& calls) {
  std::vector<std::uint8_t> heads_of_pair(static_cast<std::size_t>(runs.tokens * runs.keys));  // a bit for each head
  const auto at = [&](std::int64_t t, std::int64_t j) -> std::uint8_t& {
    return heads_of_pair[static_cast<std::size_t>(t * runs.keys + j)];
  };
  for (const FusedCall& call : calls.calls) {
    ASSERT_LE(std::ssize(call.parts), call.documents);
    for (const DocumentPart& part : call.parts) {
      ASSERT_LE(part.queries, call.queries);
      ASSERT_LE(part.keys, call.keys);
      ASSERT_EQ(part.mask, call.mask);
      const int heads = ((1 << call.heads) - 1) << call.head;
      for (std::int64_t i = 0; i < part.queries; ++i)
        for (std::int64_t j = 0; j < part.keys; ++j) {
          if (!sees(part, i, j)) continue;
          std::uint8_t& seen = at(part.query + i, part.key + j);
          ASSERT_EQ(seen & heads, 0);
          seen = static_cast<std::uint8_t>(seen | heads);
        }
    }
  }
  for (std::int64_t t = 0; t < runs.tokens; ++t) {
    const auto document = std::upper_bound(runs.cu_seqlens.begin(), runs.cu_seqlens.end(), t) - runs.cu_seqlens.begin();
    const bool computed = calls.computed.at(static_cast<std::size_t>(document - 1)) != 0;
    for (std::int64_t j = 0; j < runs.keys; ++j)
      ASSERT_EQ(at(t, j), computed && sees(runs, t, j) ? (1 << runs.heads) - 1 : 0) << "query " << t << ", key " << j;
  }
}

TEST(FusedCalls, ComputeEachPairOfTheirDocumentsOnce) {
  const Runs cases[] = {
      whole_pack({300, 57, 128, 127, 500, 300}, 3),
      {.cu_seqlens = {-200, 150, 900}, .tokens = 700, .keys = 700, .heads = 2},                      // a chunk
      {.cu_seqlens = {-500, 200}, .tokens = 200, .keys = 400, .key_offset = -450, .heads = 2},       // keys before it
      {.cu_seqlens = {-300, 200, 400}, .tokens = 400, .keys = 700, .key_offset = -300, .heads = 2},  // keys up to it
      {.cu_seqlens = {0, 600}, .tokens = 600, .keys = 300, .key_offset = 200, .heads = 1},           // keys within it
      {.cu_seqlens = {0, 300, 600}, .tokens = 600, .keys = 0, .key_offset = 0, .heads = 1},
  };
  for (const Runs& runs : cases) {
    SCOPED_TRACE(runs.tokens);
    expect_each_pair_once(runs, forward_calls(runs.view()));
    expect_each_pair_once(runs, backward_calls(runs.view(), gigabytes));
    // So little memory that documents are cut into blocks of 128 rows.
    expect_each_pair_once(runs, backward_calls(runs.view(), backward_workspace(1, 1, 128, 128)));
  }
}

TEST(FusedCalls, NoRowIsInTwoPartsOfACall) {
  const Runs runs = whole_pack({1000, 300, 2000, 129}, 4);
  for (const std::int64_t bytes : {gigabytes, backward_workspace(1, 1, 256, 256)})
    for (const FusedCall& call : backward_calls(runs.view(), bytes).calls) {
      std::set<std::int64_t> queries, keys;
      for (const DocumentPart& part : call.parts) {
        for (std::int64_t i = 0; i < part.queries; ++i) EXPECT_TRUE(queries.insert(part.query + i).second);
        for (std::int64_t i = 0; i < part.keys; ++i) EXPECT_TRUE(keys.insert(part.key + i).second);
      }
    }
}

TEST(FusedCalls, TheWorkspaceStaysWithinItsBound) {
  for (const std::vector<std::int64_t>& lengths : std::vector<std::vector<std::int64_t>>{
           {16384}, {65536}, {131072}, {1 << 20}, {32768, 1000, 100}, std::vector<std::int64_t>(8, 8192)})
    for (const std::int64_t heads : {1, 5, 32}) {
      const FusedCalls calls = backward_calls(whole_pack(lengths, heads).view(), 9 * gigabytes);
      EXPECT_FALSE(calls.calls.empty());
      for (const FusedCall& call : calls.calls)
        EXPECT_LE(backward_workspace(call.documents, call.heads, call.queries, call.keys), 9 * gigabytes);
    }
}

TEST(FusedCalls, BackwardTakesTheWorkspaceAMadeYAndTheSumsOfCutDocuments) {
  const auto bytes_of = [](std::vector<std::int64_t> lengths) {
    return backward_bytes(whole_pack(std::move(lengths)).view(), most_workspace, 128);
  };
  const std::int64_t row = 32 * 128 * 2;  // bytes of a token in bf16
  EXPECT_EQ(bytes_of({100}), backward_workspace(1, 32, 128, 128) + 100 * row);
  EXPECT_EQ(bytes_of({16384}), backward_workspace(1, 16, 16384, 16384) + 16384 * row);
  EXPECT_EQ(bytes_of({65536}), backward_workspace(1, 1, 65536, 65536) + 65536 * row);
  EXPECT_EQ(bytes_of({131072}), backward_workspace(1, 1, 65536, 65536) + 4 * 65536 * row + 6 * 131072 * row);
  EXPECT_EQ(bytes_of({40, 50}), 0);
}

TEST(FusedCalls, TheirNumberDoesNotGrowWithTheNumberOfDocuments) {
  const std::int64_t T = 65536;
  const auto counts = [&](std::vector<std::int64_t> lengths) {
    const Runs runs = whole_pack(std::move(lengths));
    return std::pair(forward_calls(runs.view()).calls.size(), backward_calls(runs.view(), most_workspace).calls.size());
  };
  EXPECT_EQ(counts({T}), std::pair(std::size_t{1}, std::size_t{32}));      // a head at a time
  EXPECT_EQ(counts({2 * T}), std::pair(std::size_t{1}, std::size_t{96}));  // 2 + 1 blocks
  EXPECT_EQ(counts(std::vector<std::int64_t>(8, T / 8)), std::pair(std::size_t{1}, std::size_t{4}));
  EXPECT_EQ(counts(std::vector<std::int64_t>(128, T / 128)), std::pair(std::size_t{1}, std::size_t{1}));
  EXPECT_EQ(counts(std::vector<std::int64_t>(8192, T / 8192)), std::pair(std::size_t{0}, std::size_t{0}));
  std::vector<std::int64_t> mixed;
  for (std::int64_t i = 0; i < 105; ++i) mixed.push_back(57 + i * 19);
  EXPECT_LE(counts(mixed).first, 5u);
  EXPECT_LE(counts(mixed).second, 7u);
}

TEST(FusedCalls, LikeLengthsShareACallAndShortDocumentsStayWithTheOtherKernels) {
  const FusedCalls calls = forward_calls(whole_pack({130, 10, 900, 200, 63, 1000}).view());
  ASSERT_EQ(calls.calls.size(), 2u);
  EXPECT_EQ(calls.calls[0].queries, 256);
  EXPECT_EQ(calls.calls[0].parts,
            (std::vector<DocumentPart>{{0, 130, 0, 130, PairMask::causal}, {1040, 200, 1040, 200, PairMask::causal}}));
  EXPECT_EQ(calls.calls[0].documents, 2);
  EXPECT_EQ(calls.calls[1].queries, 1024);
  EXPECT_EQ(calls.computed, (std::vector<std::uint8_t>{1, 0, 1, 1, 0, 1}));
}

TEST(FusedCalls, ACallHasABoundedNumberOfRows) {
  const Runs runs = whole_pack(std::vector<std::int64_t>(2000, 300));
  for (const FusedCalls& calls : {forward_calls(runs.view()), backward_calls(runs.view(), 9 * gigabytes)})
    for (const FusedCall& call : calls.calls)
      EXPECT_LE(call.parts.back().query + call.parts.back().queries - call.parts.front().query, fused_rows_of_call);
}

TEST(ShortBlocks, TakeConsecutiveShortDocuments) {
  const std::vector<std::int64_t> cu_seqlens{-5, 20, 83, 84, 200, 210, 273, 290, 400};
  std::vector<std::uint8_t> computed{0, 0, 0, 1, 0, 0, 0, 0};
  const std::vector<ShortBlock> blocks = short_blocks(segments_view(cu_seqlens, 300), computed);
  EXPECT_EQ(blocks, (std::vector<ShortBlock>{{0, 3, 0, 84}, {4, 3, 200, 90}, {7, 1, 290, 10}}));
  EXPECT_EQ(computed, (std::vector<std::uint8_t>{1, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(ShortBlocks, LeaveLongerDocuments) {
  const std::vector<std::int64_t> cu_seqlens{0, 64, 127, 500};
  std::vector<std::uint8_t> computed(3);
  EXPECT_EQ(short_blocks(segments_view(cu_seqlens, 500), computed), (std::vector<ShortBlock>{{1, 1, 64, 63}}));
  EXPECT_EQ(computed, (std::vector<std::uint8_t>{0, 1, 0}));
}

TEST(FusedCalls, DocumentsOfWhichEarlierKeysAreMissingAreComputed) {
  const Runs runs{.cu_seqlens = {-200, 300, 900}, .tokens = 900, .keys = 900};
  EXPECT_EQ(forward_calls(runs.view()).computed, (std::vector<std::uint8_t>{1, 1}));
  EXPECT_EQ(backward_calls(runs.view(), gigabytes).computed, (std::vector<std::uint8_t>{1, 1}));
}

TEST(FusedCalls, ARowOfADocumentThatIsNotCutIsInOneCallForEachHead) {
  for (const std::int64_t bytes : {9 * gigabytes, backward_workspace(1, 1, 4096, 4096)}) {
    const Runs runs = whole_pack({1000, 300, 5000, 129, 200, 64, 700, 40});
    const FusedCalls calls = backward_calls(runs.view(), bytes);
    EXPECT_EQ(calls.cut.size(), bytes == 9 * gigabytes ? 0u : 1u);
    std::vector<std::int64_t> heads_of_row(static_cast<std::size_t>(runs.tokens));
    for (const FusedCall& call : calls.calls)
      for (const DocumentPart& part : call.parts) {
        const bool within = !calls.cut.empty() && part.query >= calls.cut[0].query &&
                            part.query + part.queries <= calls.cut[0].query + calls.cut[0].queries;
        EXPECT_EQ(call.of_cut, within);
        for (std::int64_t i = 0; !within && i < part.queries; ++i)
          heads_of_row[static_cast<std::size_t>(part.query + i)] += call.heads;
      }
    for (std::int64_t t = 0; t < runs.tokens; ++t) {
      const bool other = t >= runs.tokens - 40 || (!calls.cut.empty() && t >= 1300 && t < 6300);
      EXPECT_EQ(heads_of_row[static_cast<std::size_t>(t)], other ? 0 : 32) << t;
    }
  }
}

TEST(FusedCalls, PacksOfAllLengthsNeedFewShapes) {
  std::set<std::int64_t> sizes;
  for (std::int64_t rows = 1; rows <= 1 << 20; rows += 37) {
    EXPECT_GE(size_class(rows), rows);
    sizes.insert(size_class(rows));
  }
  EXPECT_EQ(sizes.size(), 17u);  // 128 … 2^20, and 40K, 48K, 56K
}

}  // namespace
}  // namespace causeway::cuda

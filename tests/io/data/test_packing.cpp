#include "io/data/packing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"
#include "tests/support/packmamba_lengths.hpp"

namespace causeway {
namespace {

std::vector<std::int64_t> boundaries(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> cu_seqlens = {0};
  for (const std::int64_t length : lengths) cu_seqlens.push_back(cu_seqlens.back() + length);
  return cu_seqlens;
}

std::vector<Pack> packs_of(const PackingOptions& options, const std::vector<std::int64_t>& lengths) {
  const auto cu_seqlens = boundaries(lengths);
  Packer packer(options, documents_of(cu_seqlens));
  std::vector<Pack> packs;
  while (auto pack = packer.next()) packs.push_back(*pack);
  return packs;
}

/// Lengths of each pack's pieces.
std::vector<std::vector<std::int64_t>> shape_of(const std::vector<Pack>& packs) {
  std::vector<std::vector<std::int64_t>> shape;
  for (const Pack& pack : packs) {
    shape.emplace_back();
    for (const Piece& piece : pack.pieces) shape.back().push_back(piece.size());
  }
  return shape;
}

using Shape2 = std::vector<std::vector<std::int64_t>>;

class EveryPolicy : public ::testing::TestWithParam<PackingPolicy> {};
INSTANTIATE_TEST_SUITE_P(Packing, EveryPolicy,
                         ::testing::ValuesIn(packing_policies().begin(), packing_policies().end()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST_P(EveryPolicy, PutsEveryTokenInExactlyOnePackAndOverfillsNone) {
  const RandomStream random(7, 0);
  std::uint64_t draw = 0;
  for (int round = 0; round < 300; ++round) {
    const auto pack_tokens = static_cast<std::int64_t>(1 + random.below(draw++, 40));
    const auto window = static_cast<std::int64_t>(1 + random.below(draw++, 12));
    std::vector<std::int64_t> lengths(random.below(draw++, 60));
    for (auto& length : lengths)
      length = static_cast<std::int64_t>(random.below(draw++, 90));  // empty, fitting and too long ones
    const PackingOptions options{.policy = GetParam().name, .pack_tokens = pack_tokens, .window = window};
    const auto packs = packs_of(options, lengths);
    ASSERT_EQ(packs, packs_of(options, lengths)) << "not deterministic";

    std::map<std::int64_t, std::vector<std::pair<std::int64_t, std::int64_t>>> covered;
    for (const Pack& pack : packs) {
      ASSERT_LE(pack.tokens(), pack_tokens);
      ASSERT_GT(pack.tokens(), 0);
      for (std::size_t p = 0; p < pack.pieces.size(); ++p) {
        const Piece& piece = pack.pieces[p];
        ASSERT_GT(piece.size(), 0);
        covered[piece.document].emplace_back(piece.begin, piece.end);
        if (p > 0) {
          const Piece& before = pack.pieces[p - 1];
          ASSERT_LT(std::pair(before.document, before.begin), std::pair(piece.document, piece.begin))
              << "not in order of arrival";
        }
      }
    }
    for (std::size_t d = 0; d < lengths.size(); ++d) {
      auto& pieces = covered[static_cast<std::int64_t>(d)];
      std::sort(pieces.begin(), pieces.end());
      std::int64_t reached = 0;
      for (const auto& [begin, end] : pieces) {
        ASSERT_EQ(begin, reached);
        reached = end;
      }
      ASSERT_EQ(reached, lengths[d]);
    }
  }
}

TEST_P(EveryPolicy, KeepsAtMostItsWindow) {
  constexpr std::int64_t window = 8, pack_tokens = 20;
  const RandomStream random(3, 1);
  std::int64_t taken = 0, given = 0;
  const PieceSource source = [&]() -> std::optional<Piece> {
    if (taken == 4000) return std::nullopt;
    const Piece piece{0, taken, 0, static_cast<std::int64_t>(1 + random.below(static_cast<std::uint64_t>(taken), 20))};
    ++taken;
    return piece;
  };
  Packer packer({.policy = GetParam().name, .pack_tokens = pack_tokens, .window = window}, source);
  while (const auto pack = packer.next()) {
    given += static_cast<std::int64_t>(pack->pieces.size());
    ASSERT_LE(taken - given, window);
  }
}

TEST_P(EveryPolicy, RefusesOrCutsADocumentLongerThanAPack) {
  const std::vector<std::int64_t> lengths = {4, 25, 10};
  EXPECT_THROW(
      packs_of({.policy = GetParam().name, .pack_tokens = 10, .long_documents = LongDocuments::refuse}, lengths),
      Error);
  const auto cu_seqlens = boundaries(lengths);
  const auto statistics = measure_packing({.policy = GetParam().name, .pack_tokens = 10}, documents_of(cu_seqlens));
  EXPECT_EQ(statistics.documents_cut, GetParam().name == "split" ? 2 : 1);
  EXPECT_EQ(statistics.tokens, 39);
}

TEST_P(EveryPolicy, MakesNoPackWithoutDocuments) {
  EXPECT_TRUE(packs_of({.policy = GetParam().name, .pack_tokens = 5}, {}).empty());
  EXPECT_TRUE(packs_of({.policy = GetParam().name, .pack_tokens = 5}, {0, 0, 0}).empty());
  const std::vector<std::int64_t> nothing = {0};
  EXPECT_EQ(measure_packing({.policy = GetParam().name, .pack_tokens = 5}, documents_of(nothing)).padding_rate(), 0);
}

TEST(Packing, EachPolicyMakesTheExpectedPacks) {
  const std::vector<std::int64_t> lengths = {5, 7, 3, 6, 2, 1};
  EXPECT_EQ(shape_of(packs_of({.policy = "in_order", .pack_tokens = 10}, lengths)), (Shape2{{5}, {7, 3}, {6, 2, 1}}));
  EXPECT_EQ(shape_of(packs_of({.policy = "greedy", .pack_tokens = 10}, lengths)), (Shape2{{7, 3}, {6, 2, 1}, {5}}));
  EXPECT_EQ(shape_of(packs_of({.policy = "greedy", .pack_tokens = 10, .window = 3}, lengths)),
            (Shape2{{7, 3}, {6, 2, 1}, {5}}));
  EXPECT_EQ(shape_of(packs_of({.policy = "first_fit_decreasing", .pack_tokens = 10}, lengths)),
            (Shape2{{7, 3}, {6, 2, 1}, {5}}));
  EXPECT_EQ(shape_of(packs_of({.policy = "split", .pack_tokens = 10}, lengths)),
            (Shape2{{5, 5}, {2, 3, 5}, {1, 2, 1}}));
}

TEST(Packing, SplitFillsAllPacksButTheLast) {
  const auto packs = packs_of({.policy = "split", .pack_tokens = 64}, {1000, 3, 0, 77});
  for (std::size_t p = 0; p + 1 < packs.size(); ++p) EXPECT_EQ(packs[p].tokens(), 64);
  EXPECT_EQ(packs.back().tokens(), 1080 % 64);
}

TEST(Packing, PadsAsMuchAsPackMambaPublished) {
  const auto lengths =
      testing::packmamba_lengths(20'000, 2.3);  // the width at which in_order pads as published; the rest follows
  EXPECT_EQ(*std::min_element(lengths.begin(), lengths.end()), 57);
  EXPECT_EQ(*std::max_element(lengths.begin(), lengths.end()), 2048);
  EXPECT_NEAR(static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0})) / 20'000, 646, 1);
  const auto cu_seqlens = boundaries(lengths);
  const auto rate = [&](std::string_view policy) {
    return measure_packing({.policy = policy, .pack_tokens = 4096}, documents_of(cu_seqlens)).padding_rate();
  };
  EXPECT_NEAR(rate("in_order"), 0.191, 0.005);
  EXPECT_NEAR(rate("greedy"), 0.0041, 0.001);
  EXPECT_LT(rate("first_fit_decreasing"), rate("in_order"));
  EXPECT_LT(rate("split"), 0.0005);
}

TEST(Packing, RefusesUnknownPoliciesAndSizesBelowOne) {
  const auto code = [](const PackingOptions& options) {
    try {
      Packer(options, [] { return std::nullopt; });
    } catch (const Error& error) {
      return error.code();
    }
    return ExitCode::ok;
  };
  EXPECT_EQ(code({.policy = "best", .pack_tokens = 8}), ExitCode::usage);
  EXPECT_EQ(code({.pack_tokens = 0}), ExitCode::usage);
  EXPECT_EQ(code({.pack_tokens = 8, .window = 0}), ExitCode::usage);
  EXPECT_EQ(code({.pack_tokens = 8}), ExitCode::ok);
}

}  // namespace
}  // namespace causeway

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/core/integer.hpp"
#include "kernels/cuda/selective_scan/selective_scan_pieces.hpp"
#include "tests/support/gpu.hpp"

namespace causeway::cuda {
namespace {

constexpr PieceCosts one_place{.any = {}, .channels = 32, .token = 35, .block = 75},
    two_places{.any = {}, .channels = 16, .places = 2, .token = 106, .token_alone = 82, .block = 50};
constexpr std::int64_t multiprocessors = 132;  // an H200

/// Expects that the pieces divide the run, the longest first, and are open exactly where a document continues.
void expect_division(const RunPieces& pieces, const PieceRun& run) {
  const SegmentsView& segments = run.segments;
  const std::vector<std::int64_t> starts(segments.host, segments.host + segments.count);
  std::vector<std::pair<std::int64_t, std::int64_t>> sorted;
  for (int p = 0; p < pieces.count; ++p) {
    sorted.emplace_back(pieces.begin[p], pieces.end[p]);
    if (p > 0) {
      EXPECT_GE(pieces.end[p - 1] - pieces.begin[p - 1], pieces.end[p] - pieces.begin[p]);
    }
    const std::int64_t edge = run.direction == ScanDirection::left_to_right ? pieces.begin[p] : pieces.end[p];
    const bool at_run_edge = edge == (run.direction == ScanDirection::left_to_right ? 0 : segments.tokens);
    EXPECT_EQ(pieces.open[p] != 0, !at_run_edge && !std::binary_search(starts.begin(), starts.end(), edge)) << edge;
    if (pieces.open[p] != 0) {
      EXPECT_EQ(edge % run.chunk_tokens, 0);
    }
  }
  std::sort(sorted.begin(), sorted.end());
  std::int64_t end = 0;
  for (const auto& [begin, its_end] : sorted) {
    EXPECT_EQ(begin, end);
    EXPECT_LT(begin, its_end);
    end = its_end;
  }
  EXPECT_EQ(end, segments.tokens);
}

TEST(ScanPieces, DivideEveryRunAtStartsOfDocumentsOrAtWholeChunks) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    test::RandomChoices choose(seed);
    std::vector<std::int64_t> documents{-choose.number(0, 5)};
    const std::int64_t tokens = choose.number(1, 20000), longest = std::int64_t{1} << choose.number(0, 14);
    while (documents.back() < tokens) documents.push_back(documents.back() + choose.number(1, longest));
    for (const auto direction : {ScanDirection::left_to_right, ScanDirection::right_to_left}) {
      const PieceRun run{segments_view(documents, tokens), choose.number(1, 6000), 16, 64 * choose.number(1, 8),
                         direction};
      SCOPED_TRACE(fmt::format("seed {}: {} tokens, {} channels", seed, tokens, run.channels));
      const std::int64_t most = choose.number(run.chunk_tokens, 20000);
      for (const bool open : {false, true})
        if (const RunPieces pieces = cut_run(run, most, open); pieces.count > 0) expect_division(pieces, run);
      for (const PieceCosts& costs : {one_place, two_places})
        expect_division(plan_pieces(run, costs, multiprocessors).pieces, run);
    }
  }
}

/// The time of a document [start, end) between two short ones, cut at whole chunks.
double time_of_cut_document(ScanDirection direction, std::int64_t start, std::int64_t end) {
  const std::vector<std::int64_t> documents{0, start, end, 5100};
  const PieceRun run{segments_view(documents, 5100), 1536, 16, 64, direction};
  const RunPieces pieces = cut_run(run, 1024, true);
  EXPECT_TRUE(pieces.any_open);
  EXPECT_FALSE(cut_run(run, 1024, false).any_open);
  return time_of(pieces, run, one_place, multiprocessors);
}

TEST(ScanPieces, ChunkSumsCoverADocumentUpToItsLastCut) {
  const auto right = ScanDirection::left_to_right, left = ScanDirection::right_to_left;
  EXPECT_GT(time_of_cut_document(right, 100, 5000), time_of_cut_document(right, 110, 5000));
  EXPECT_EQ(time_of_cut_document(right, 100, 5000), time_of_cut_document(right, 100, 5010));
  EXPECT_EQ(time_of_cut_document(left, 100, 5000), time_of_cut_document(left, 110, 5000));
  EXPECT_LT(time_of_cut_document(left, 100, 5000), time_of_cut_document(left, 100, 5010));
}

TEST(ScanPieces, PackedRunsAreDividedEvenlyWithoutChunkSums) {
  std::vector<std::int64_t> documents{0};
  for (const std::int64_t length : {165, 161, 362, 307, 973, 845, 341, 68, 606, 145, 621, 598, 505, 1381, 1114})
    documents.push_back(documents.back() + length);
  for (const std::int64_t channels : {1536, 2048, 4096, 5120})
    for (const PieceCosts& costs : {one_place, two_places}) {
      const PieceRun run{segments_view(documents, 8192), channels, 16, 64, ScanDirection::right_to_left};
      const PiecePlan plan = plan_pieces(run, costs, multiprocessors);
      EXPECT_FALSE(plan.pieces.any_open);
      const double even = 8192. * static_cast<double>(channels) / costs.channels / 132 / costs.places * costs.token;
      EXPECT_LT(plan.time, 1.15 * even) << channels;
    }
}

TEST(ScanPieces, OneDocumentIsNotDividedWhereItsChannelsFillTheDevice) {
  const std::vector<std::int64_t> documents{0, 16384};
  const PieceRun run{segments_view(documents, 16384), 4096, 16, 256, ScanDirection::left_to_right};
  for (const PieceCosts& costs : {one_place, two_places})
    EXPECT_EQ(plan_pieces(run, costs, multiprocessors).pieces.count, 1);
}

TEST(ScanPieces, PlansAreKeptForTheSameRunOnly) {
  PlannedPieces planned;
  for (int round = 0; round < 3; ++round)
    for (std::int64_t cut = 100; cut < 2000; cut += 100) {
      const std::vector<std::int64_t> documents{0, cut, 2048};
      const PieceRun run{segments_view(documents, 2048), 1536, 16, 64, ScanDirection::left_to_right};
      expect_division(planned(run, one_place, multiprocessors).pieces, run);
      const PieceRun back{segments_view(documents, 2048), 1536, 16, 64, ScanDirection::right_to_left};
      expect_division(planned(back, one_place, multiprocessors).pieces, back);
    }
}

}  // namespace
}  // namespace causeway::cuda

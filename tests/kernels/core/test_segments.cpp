#include "kernels/core/segments.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/core/random.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

/// The start of every token's document, by the definition, token by token.
std::vector<std::int64_t> starts_of(const Segments& segments) {
  std::vector<std::int64_t> starts;
  for (std::int64_t s = 0; s < segments.count(); ++s)
    for (std::int64_t t = segments.cu_seqlens()[static_cast<std::size_t>(s)];
         t < segments.cu_seqlens()[static_cast<std::size_t>(s + 1)]; ++t)
      starts.push_back(segments.cu_seqlens()[static_cast<std::size_t>(s)]);
  return starts;
}

TEST(Segments, StartsEndsAndPositionsOverRandomSegmentations) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Segments segments = random_segments(static_cast<std::int64_t>(1 + seed % 70), seed);
    const auto starts = starts_of(segments);
    ASSERT_EQ(static_cast<std::int64_t>(starts.size()), segments.tokens());
    std::vector<std::int64_t> positions;
    for (std::int64_t t = 0; t < segments.tokens(); ++t) {
      const auto start = starts[static_cast<std::size_t>(t)];
      EXPECT_EQ(segments.start_of(t), start);
      EXPECT_EQ(segments.end_of(t), start + std::count(starts.begin(), starts.end(), start));
      positions.push_back(t - start);
    }
    EXPECT_EQ(segments.positions(0, segments.tokens()), positions);
  }
}

TEST(Segments, ASliceGivesTheSameDocumentsAsThePack) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const auto tokens = static_cast<std::int64_t>(1 + seed % 50);
    const Segments segments = random_segments(tokens, seed);
    const RandomStream draws(seed, 1);
    const auto begin = static_cast<std::int64_t>(draws.below(0, static_cast<std::uint64_t>(tokens)));
    const auto end = begin + 1 + static_cast<std::int64_t>(draws.below(1, static_cast<std::uint64_t>(tokens - begin)));
    const auto slice = segments.slice(begin, end);
    const SegmentsView view = segments_view(slice, end - begin);

    EXPECT_TRUE(std::is_sorted(slice.begin(), slice.end()) &&
                std::adjacent_find(slice.begin(), slice.end()) == slice.end())
        << "strictly increasing";
    EXPECT_LE(slice.front(), 0);
    EXPECT_GE(slice.back(), end - begin);
    EXPECT_EQ(view.continues_from_left(), segments.start_of(begin) < begin);
    EXPECT_EQ(view.continues_to_right(), segments.end_of(end - 1) > end);
    const auto positions = segments.positions(begin, end);
    for (std::int64_t t = begin; t < end; ++t) {
      const std::int64_t document = view.document_of(t - begin);
      EXPECT_EQ(begin + slice[static_cast<std::size_t>(document)], segments.start_of(t));
      EXPECT_EQ(begin + slice[static_cast<std::size_t>(document + 1)], segments.end_of(t));
      EXPECT_EQ(positions[static_cast<std::size_t>(t - begin)], t - segments.start_of(t));
    }
  }
}

TEST(Segments, AnEmptySliceTouchesNoDocument) {
  const Segments segments({0, 3, 3, 8});
  for (const std::int64_t at : {0, 2, 3, 8}) {
    const auto slice = segments.slice(at, at);
    EXPECT_EQ(segments_view(slice, 0).count, 0) << at;
    EXPECT_TRUE(segments.positions(at, at).empty());
  }
}

TEST(Segments, ASliceLeavesOutEmptyDocuments) {
  const Segments segments({0, 0, 0, 4, 4, 4, 9, 9});
  EXPECT_EQ(segments.slice(0, 9), (std::vector<std::int64_t>{0, 4, 9}));
  EXPECT_EQ(segments.slice(4, 9), (std::vector<std::int64_t>{0, 5}));
  EXPECT_EQ(segments.slice(2, 5), (std::vector<std::int64_t>{-2, 2, 7}));
}

TEST(Segments, OfLengthsAndOneDocument) {
  const std::int64_t lengths[] = {3, 0, 5};
  const Segments segments = Segments::of_lengths(lengths);
  EXPECT_TRUE(std::ranges::equal(segments.cu_seqlens(), std::vector<std::int64_t>{0, 3, 3, 8}));
  EXPECT_EQ(Segments::one_document(7).count(), 1);
  EXPECT_EQ(Segments().tokens(), 0);
  EXPECT_EQ(Segments().count(), 0);
}

TEST(Segments, RefusesInvalidCuSeqlensAndNamesTheDataset) {
  for (const auto& [wrong, reason] : {std::pair{std::vector<std::int64_t>{}, "is empty"},
                                      {{1, 2}, "starts at 1"},
                                      {{0, 5, 4}, "value 2 is 4 after 5"},
                                      {{0, -1}, "value 1 is -1 after 0"}}) {
    try {
      const Segments segments(wrong, "case.h5:/cu_seqlens");
      ADD_FAILURE() << reason;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::usage);
      EXPECT_NE(std::string(error.what()).find("case.h5:/cu_seqlens"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace causeway::test

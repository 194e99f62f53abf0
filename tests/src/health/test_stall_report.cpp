#include "src/health/stall_report.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace causeway::test {
namespace {

constexpr double now = 1000;

/// A rank heard `age` seconds ago, which then had stood still for `still`.
RankLine line(int rank, std::int64_t moves, double still, double age = 0.5) {
  return {.rank = rank,
          .host = "node",
          .pid = 1,
          .heard = now - age,
          .view = {.place = {.step = 5, .phase = Phase::forward, .layer = 1, .moves = moves}, .still_s = still}};
}

TEST(Stall, TheJobStandsStillAsLongAsTheRankThatMovedLast) {
  EXPECT_DOUBLE_EQ(still_s({line(0, 3, 20), line(1, 3, 4), std::nullopt}, now), 4.5);
  EXPECT_TRUE(std::isinf(still_s({std::nullopt}, now)));
  // A stopped rank's last line says that it had just moved; it has aged.
  EXPECT_DOUBLE_EQ(still_s({line(0, 3, 20), line(1, 3, 0.1, 19)}, now), 19.1);
}

TEST(Stall, AThreadThatWritesACheckpointCountsWhileItWrites) {
  RankProgress::View view{.still_s = 30};
  EXPECT_EQ(still_s(view), 30);
  view.writing = CheckpointStage::shard;
  view.writing_still_s = 2;
  EXPECT_EQ(still_s(view), 2);  // the training thread waits for it
  view.still_s = 0;
  view.writing_still_s = 60;
  EXPECT_EQ(still_s(view), 60);  // it stands still behind the training thread's back
  view.writing = CheckpointStage::hashed;
  EXPECT_EQ(still_s(view), 0);  // it has nothing left to do
  view.writing = CheckpointStage::copy;
  EXPECT_EQ(still_s(view), 0);  // that is the training thread
}

TEST(Stall, TheLikeliestCauseIsNamed) {
  using Lines = std::vector<std::optional<RankLine>>;
  const auto reason = [](const Lines& lines) { return describe_stall(lines, now, 20).reason; };
  EXPECT_EQ(reason({line(0, 9, 25), line(1, 7, 24), line(2, 9, 25)}),
            "no progress for 20 s; rank 1 (node) is furthest behind, at step 5, forward of layer 1");
  EXPECT_EQ(reason({line(0, 9, 21), line(1, 9, 24)}),
            "no progress for 20 s; all ranks stand at step 5, forward of layer 1, rank 1 (node) for longest");
  EXPECT_EQ(reason({line(0, 7, 25), line(1, 9, 0.1, 24)}),
            "no progress for 20 s; rank 1 (node) has been stopped, or is gone");
  RankLine writer = line(1, 9, 0);
  writer.view.writing = CheckpointStage::hash;
  writer.view.writing_still_s = 30;
  EXPECT_EQ(reason({line(0, 7, 0), writer}),
            "no progress for 20 s; rank 1 (node) stands in writing its checkpoint: hash");
  EXPECT_EQ(reason({std::nullopt}), "no progress for 20 s");
}

TEST(Stall, EveryRankHasItsLine) {
  RankLine stopped = line(1, 9, 0.25, 31);
  stopped.view.writing = CheckpointStage::shard;
  stopped.view.writing_still_s = 1;
  const Stall stall = describe_stall({line(0, 9, 21), stopped, std::nullopt}, now, 20);
  ASSERT_EQ(stall.ranks.size(), 3u);
  EXPECT_EQ(stall.ranks[0], "rank 0 (node): step 5, forward of layer 1, for 21.5 s");
  EXPECT_EQ(stall.ranks[1],
            "rank 1 (node): not heard for 31 s, stopped or gone; was at step 5, forward of layer 1; writing its "
            "checkpoint: shard, for 32.0 s");
  EXPECT_EQ(stall.ranks[2], "rank 2: not heard yet");
}

}  // namespace
}  // namespace causeway::test

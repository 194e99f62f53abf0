#include "src/health/stall_report.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace causeway::test {
namespace {

constexpr double now = 1000;

/// The line that a rank wrote `age` seconds ago, when it had been idle for `idle` seconds.
RankLine line(int rank, std::int64_t heartbeats, double idle, double age = 0.5) {
  return {.rank = rank,
          .host = "node",
          .pid = 1,
          .written_at = now - age,
          .progress = {.position = {.step = 5, .phase = Phase::forward, .layer = 1, .heartbeats = heartbeats},
                       .idle_s = idle}};
}

TEST(StallReport, TheJobIsIdleSinceTheLastProgressOfAnyRank) {
  EXPECT_DOUBLE_EQ(idle_s({line(0, 3, 20), line(1, 3, 4), std::nullopt}, now), 4.5);
  EXPECT_TRUE(std::isinf(idle_s({std::nullopt}, now)));
  // A stopped rank's last line says that it was active at that time; the line's age counts too.
  EXPECT_DOUBLE_EQ(idle_s({line(0, 3, 20), line(1, 3, 0.1, 19)}, now), 19.1);
}

TEST(StallReport, TheWritingThreadCountsWhileItWrites) {
  RankProgress::Snapshot progress{.idle_s = 30};
  EXPECT_EQ(idle_s(progress), 30);
  progress.writing = CheckpointStage::shard;
  progress.writing_idle_s = 2;
  EXPECT_EQ(idle_s(progress), 2);  // the training thread may wait for it
  progress.idle_s = 0;
  progress.writing_idle_s = 60;
  EXPECT_EQ(idle_s(progress), 60);  // it hangs although training continues
  progress.writing = CheckpointStage::hashed;
  EXPECT_EQ(idle_s(progress), 0);  // it waits for the other ranks
  progress.writing = CheckpointStage::copy;
  EXPECT_EQ(idle_s(progress), 0);  // the training thread copies
}

TEST(StallReport, AThreadInsideTheSystemMayTakeLonger) {
  RankProgress::Snapshot progress{.idle_s = 30, .in_system = true};
  EXPECT_EQ(idle_s(progress, 100), 0);
  EXPECT_EQ(idle_s(progress, 25), 5);
  progress.writing = CheckpointStage::index;
  progress.writing_idle_s = 50;
  EXPECT_EQ(idle_s(progress, 25), 50);  // the writing thread is not inside the system
  progress.writing_in_system = true;
  EXPECT_EQ(idle_s(progress, 25), 25);
  // A rank that waits for one inside the system is not stuck.
  RankLine writer = line(0, 9, 40);
  writer.progress.writing = CheckpointStage::publish;
  writer.progress.writing_idle_s = 40;
  writer.progress.writing_in_system = true;
  EXPECT_DOUBLE_EQ(idle_s({writer, line(1, 9, 40)}, now, 100), 0.5);
  EXPECT_DOUBLE_EQ(idle_s({writer, line(1, 9, 40)}, now, 15), 25.5);
  RankLine stopped = writer;  // inside the system when it was stopped
  stopped.written_at = now - 60;
  EXPECT_DOUBLE_EQ(idle_s({stopped, line(1, 9, 80)}, now, 100), 60);
  EXPECT_EQ(describe_stall({stopped, line(1, 9, 80)}, now, 20, 100).reason,
            "no progress for 20 s; rank 0 (node) has been stopped, or is gone");
  // A rank that waits for one that was stopped seems to be inside the system for ever.
  EXPECT_TRUE(has_lost_rank({stopped, line(1, 9, 80)}, now, 20));
  EXPECT_FALSE(has_lost_rank({stopped, line(1, 9, 80)}, now, 100)) << "not longer than the limit";
  EXPECT_FALSE(has_lost_rank({writer, line(1, 9, 80)}, now, 0.1)) << "a line that is late";
  EXPECT_EQ(describe_stall({writer, line(1, 9, 140)}, now, 20, 100).reason,
            "no progress for 120 s; rank 0 (node) is stuck writing its checkpoint: publish, inside the system (fsync, "
            "write, rename or removal)");
  RankLine starting = line(0, 9, 40);
  starting.progress.in_system = true;
  EXPECT_EQ(describe_stall({starting, line(1, 7, 140)}, now, 20, 100).reason,
            "no progress for 120 s; rank 0 (node) is stuck, inside the system (fsync, write, rename or removal), at "
            "step 5, forward of layer 1");
}

TEST(StallReport, NamesTheMostLikelyCause) {
  using Lines = std::vector<std::optional<RankLine>>;
  const auto reason = [](const Lines& lines) { return describe_stall(lines, now, 20).reason; };
  EXPECT_EQ(reason({line(0, 9, 25), line(1, 7, 24), line(2, 9, 25)}),
            "no progress for 20 s; rank 1 (node) is furthest behind, at step 5, forward of layer 1");
  EXPECT_EQ(reason({line(0, 9, 21), line(1, 9, 24)}),
            "no progress for 20 s; all ranks are at step 5, forward of layer 1, rank 1 (node) for the longest time");
  EXPECT_EQ(reason({line(0, 7, 25), line(1, 9, 0.1, 24)}),
            "no progress for 20 s; rank 1 (node) has been stopped, or is gone");
  RankLine writer = line(1, 9, 0);
  writer.progress.writing = CheckpointStage::hash;
  writer.progress.writing_idle_s = 30;
  EXPECT_EQ(reason({line(0, 7, 0), writer}),
            "no progress for 20 s; rank 1 (node) is stuck writing its checkpoint: hash");
  EXPECT_EQ(reason({std::nullopt}), "no progress for 20 s");
}

TEST(StallReport, HasALineForEveryRank) {
  RankLine stopped = line(1, 9, 0.25, 31);
  stopped.progress.writing = CheckpointStage::shard;
  stopped.progress.writing_idle_s = 1;
  const StallReport stall = describe_stall({line(0, 9, 21), stopped, std::nullopt}, now, 20);
  ASSERT_EQ(stall.ranks.size(), 3u);
  EXPECT_EQ(stall.ranks[0], "rank 0 (node): step 5, forward of layer 1, for 21.5 s");
  EXPECT_EQ(stall.ranks[1],
            "rank 1 (node): silent for 31 s, stopped or gone; last at step 5, forward of layer 1; writing its "
            "checkpoint: shard, for 32.0 s");
  EXPECT_EQ(stall.ranks[2], "rank 2: has not reported yet");
}

}  // namespace
}  // namespace causeway::test

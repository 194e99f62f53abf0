#include "src/health/rank_progress.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace causeway::test {
namespace {

TEST(RankProgress, RecordsTheTrainingThreadAndTheWritingThreadSeparately) {
  RankProgress progress;
  progress.begin_step(4);
  progress.enter(Phase::forward);
  progress.record_layer(2);
  EXPECT_EQ(progress.snapshot().position.step, 4);
  EXPECT_EQ(progress.snapshot().position.phase, Phase::forward);
  EXPECT_EQ(progress.snapshot().position.layer, 2);
  EXPECT_EQ(progress.snapshot().position.heartbeats, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_GE(progress.snapshot().idle_s, 0.03);
  progress.record_writing(CheckpointStage::shard, "shard-00000.h5");
  EXPECT_GE(progress.snapshot().idle_s, progress.snapshot().writing_idle_s);
  EXPECT_EQ(progress.snapshot().writing, CheckpointStage::shard);
  progress.enter(Phase::backward);
  EXPECT_EQ(progress.snapshot().position.layer, -1);
}

TEST(RankProgress, KnowsWhichThreadIsInsideTheSystem) {
  RankProgress progress;
  bool in_hook = true;
  progress.observe([&](const ProgressPoint&) { in_hook = progress.snapshot().writing_in_system; });
  for (const auto stage : {CheckpointStage::shard, CheckpointStage::shard, CheckpointStage::retire}) {
    progress.record_writing(stage, "a file");
    EXPECT_FALSE(in_hook);  // a fault that hangs there is not a system call
    EXPECT_TRUE(progress.snapshot().writing_in_system);
  }
  for (const auto stage : {CheckpointStage::copy, CheckpointStage::hashed, CheckpointStage::idle}) {
    progress.record_writing(stage, "a file");
    EXPECT_FALSE(progress.snapshot().writing_in_system);
  }
  EXPECT_FALSE(progress.snapshot().in_system);
  {
    const SystemCalls outer(progress);
    { const SystemCalls inner(progress); }
    EXPECT_TRUE(progress.snapshot().in_system);
  }
  EXPECT_FALSE(progress.snapshot().in_system);
}

TEST(RankProgress, TheObserverSeesEveryPointAfterItIsRecorded) {
  RankProgress progress;
  std::vector<ProgressPoint> points;
  progress.observe([&](const ProgressPoint& point) {
    if (const auto* phase = std::get_if<Phase>(&point.at)) {
      EXPECT_EQ(progress.snapshot().position.phase, *phase);
    }
    points.push_back({.step = point.step, .at = point.at, .layer = point.layer});
  });
  progress.begin_step(7);
  progress.enter(Phase::forward);
  progress.record_layer(1);
  progress.heartbeat();
  progress.record_writing(CheckpointStage::copy, "step-7.tmp");
  progress.begin_step(8);
  progress.record_writing(CheckpointStage::shard, "step-7.tmp/shard-00000.h5");
  ASSERT_EQ(points.size(), 6u);
  EXPECT_EQ(std::get<Phase>(points[0].at), Phase::data);
  EXPECT_EQ(std::get<Phase>(points[2].at), Phase::forward);
  EXPECT_EQ(points[2].layer, 1);
  EXPECT_EQ(points[4].step, 8);
  EXPECT_EQ(std::get<CheckpointStage>(points[5].at), CheckpointStage::shard);
  EXPECT_EQ(points[5].step, 7);  // the step whose checkpoint is written
}

}  // namespace
}  // namespace causeway::test

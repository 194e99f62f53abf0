#include "src/health/rank_progress.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace causeway::test {
namespace {

TEST(RankProgress, EverySignOfLifeIsOneAndTheThreadsHaveTheirOwn) {
  RankProgress rank_progress;
  rank_progress.begin_step(4);
  rank_progress.enter(Phase::forward);
  rank_progress.come_to_layer(2);
  EXPECT_EQ(rank_progress.view().place.step, 4);
  EXPECT_EQ(rank_progress.view().place.phase, Phase::forward);
  EXPECT_EQ(rank_progress.view().place.layer, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_GE(rank_progress.view().still_s, 0.03);
  rank_progress.writing(CheckpointStage::shard, "shard-00000.h5");
  EXPECT_GE(rank_progress.view().still_s, rank_progress.view().writing_still_s);
  EXPECT_EQ(rank_progress.view().writing, CheckpointStage::shard);
  rank_progress.enter(Phase::backward);
  EXPECT_EQ(rank_progress.view().place.layer, -1);
}

}  // namespace
}  // namespace causeway::test

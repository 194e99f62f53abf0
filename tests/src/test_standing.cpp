#include "src/standing.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace causeway::test {
namespace {

TEST(Standing, EverySignOfLifeIsOneAndTheThreadsHaveTheirOwn) {
  Standing standing;
  standing.begin_step(4);
  standing.enter(Phase::forward);
  standing.come_to_layer(2);
  EXPECT_EQ(standing.view().place.step, 4);
  EXPECT_EQ(standing.view().place.phase, Phase::forward);
  EXPECT_EQ(standing.view().place.layer, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_GE(standing.view().still_s, 0.03);
  standing.writing(CheckpointStage::shard, "shard-00000.h5");
  EXPECT_GE(standing.view().still_s, standing.view().writing_still_s);
  EXPECT_EQ(standing.view().writing, CheckpointStage::shard);
  standing.enter(Phase::backward);
  EXPECT_EQ(standing.view().place.layer, -1);
}

}  // namespace
}  // namespace causeway::test

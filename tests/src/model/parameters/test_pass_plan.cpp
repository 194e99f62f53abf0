#include "src/model/parameters/pass_plan.hpp"

#include <gtest/gtest.h>

namespace causeway::test {
namespace {

TEST(PassPlan, AForwardPassUsesEveryGroupOnce) {
  EXPECT_EQ(plan_of_forward({.blocks = 2}).steps, (std::vector<PassStep>{{0}, {1}, {2}, {3}}));
  EXPECT_EQ(plan_of_forward({.blocks = 2, .tied_head = true}).steps, (std::vector<PassStep>{{0}, {1}, {2}, {3, 0}}));
}

TEST(PassPlan, ABackwardPassUsesTheBlocksFromTheLastOne) {
  const std::vector<PassStep> plain{{0}, {1}, {2}, {3}, {4}, {3}, {2}, {1}};
  EXPECT_EQ(plan_of_training({.blocks = 3}).steps, plain);
  // With recomputation a block is run again where its backward pass begins: one use.
  EXPECT_EQ(plan_of_training({.blocks = 3, .recompute = true}).steps, plain);
}

TEST(PassPlan, BlocksBetweenKeptInputsAreRunAgainFirst) {
  // Inputs of blocks 0 and 3 are kept, and that of the last, 5, which is not run again.
  const PassPlan plan = plan_of_training({.blocks = 6, .recompute = true, .recompute_blocks = 3});
  EXPECT_EQ(plan.steps, (std::vector<PassStep>{
                            {0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {6}, {4}, {5}, {4}, {1}, {2}, {3}, {2}, {1}}));
}

TEST(PassPlan, TheLastBlocksAreKept) {
  EXPECT_EQ(plan_of_training({.blocks = 3}).kept, (Range{4, 4}));
  EXPECT_EQ(plan_of_training({.blocks = 3, .keep_blocks = 2}).kept, (Range{2, 4}));
  EXPECT_EQ(plan_of_training({.blocks = 3, .keep_blocks = 9}).kept, (Range{1, 4}));
}

}  // namespace
}  // namespace causeway::test

#include "src/model/parameters/pass_plan.hpp"

#include <algorithm>

namespace causeway {

PassPlan plan_of_forward(const PassShape& shape) {
  PassPlan plan;
  for (std::size_t group = 0; group < shape.head(); ++group) plan.steps.push_back({group});
  plan.steps.push_back(shape.head_step());
  return plan;
}

PassPlan plan_of_training(const PassShape& shape) {
  PassPlan plan = plan_of_forward(shape);
  const auto every = static_cast<std::size_t>(shape.recompute_blocks);
  std::size_t first_with_input = shape.blocks;  // of blocks from here on the inputs exist: they were run again
  for (std::size_t block = shape.blocks; block-- > 0;) {
    if (shape.recompute && block + 1 < shape.blocks && block < first_with_input) {
      first_with_input = block / every * every;
      for (std::size_t again = first_with_input; again < block; ++again) plan.steps.push_back({group_of_block(again)});
    }
    plan.steps.push_back({group_of_block(block)});
  }
  const auto blocks = static_cast<std::int64_t>(shape.blocks);
  plan.kept = {blocks + 1 - std::min(shape.keep_blocks, blocks), blocks + 1};
  return plan;
}

}  // namespace causeway

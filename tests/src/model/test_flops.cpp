#include "src/model/flops.hpp"

#include <gtest/gtest.h>

namespace causeway::test {
namespace {

TEST(Flops, CountMatrixProductsAndAttention) {
  const Segments documents({0, 10, 10, 40});
  const ModelOptions mamba{.vocabulary = 16, .width = 8, .layers = {"mamba", "mamba"}, .state = 2, .expand = 2};
  const double block =
      32 * 8 + 5 * 16 + 16 * 1 + 8 * 16;  // in_proj, x_proj, dt_proj, out_proj; the head is the embedding
  EXPECT_EQ(training_flops(Model({.shape = mamba}), documents), 6 * 40 * (2 * block + 16 * 8));

  ModelOptions striped{.vocabulary = 16, .width = 8, .layers = {"se", "attention"}, .heads = 2, .filter_groups = 4};
  striped.ffn = 20;
  striped.tied_head = false;
  const double mixer = 4 * 8 * 8, mlp = 3 * 8 * 20;
  EXPECT_EQ(training_flops(Model({.shape = striped}), documents),
            6 * 40 * (2 * (mixer + mlp) + 16 * 8) + 6 * 8 * (10 * 10 + 30 * 30));
}

}  // namespace
}  // namespace causeway::test

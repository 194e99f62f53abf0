#include "kernels/random_fill.hpp"

#include <gtest/gtest.h>

#include "tests/support/gpu.hpp"
#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

constexpr RandomStream draws(5, 77);
constexpr RandomFill::Distribution distributions[] = {RandomFill::Distribution::uniform,
                                                      RandomFill::Distribution::normal};

TEST(RandomFill, ElementIIsDrawIOnAnyNumberOfThreads) {
  for (const int threads : {1, 3})
    with_threads(threads, [&] {
      const Stream stream;
      const Tensor uniform(stream, DType::f64, {3, 10'001}), normal(stream, DType::f32, {3, 10'001});
      random_fill(stream, {.distribution = distributions[0], .scale = 0.5, .random = draws, .y = uniform});
      random_fill(stream, {.distribution = distributions[1], .scale = 3, .random = draws, .y = normal});
      for (const std::size_t i : {0, 1, 4097, 30'002}) {
        EXPECT_EQ(values_of(uniform)[i], 0.5 * (2 * draws.uniform(i) - 1));
        EXPECT_EQ(values_of(normal)[i], double(float(3 * draws.normal(i))));
      }
    });
}

class RandomFillOnAGpu : public GpuTest {};
INSTANTIATE_TEST_SUITE_P(RandomFill, RandomFillOnAGpu, testing::Values(DType::f64, DType::f32, DType::bf16),
                         [](const auto& dtype) { return std::string(name_of(dtype.param)); });

TEST_P(RandomFillOnAGpu, DrawsTheSameNumbers) {
  for (const RandomFill::Distribution distribution : distributions) {
    const Tensor here(cpu(), GetParam(), {70'001}), there(gpu(), GetParam(), {70'001});
    random_fill(cpu(), {.distribution = distribution, .scale = 0.02, .random = draws, .y = here});
    random_fill(gpu(), {.distribution = distribution, .scale = 0.02, .random = draws, .y = there});
    const Tensor back = to_cpu(there);
    if (distribution == distributions[0]) {
      EXPECT_EQ(values_of(back), values_of(here));
    } else {
      EXPECT_LT(relative_error(values_of(back), values_of(here)), 1e-7);
    }
  }
}

}  // namespace
}  // namespace causeway::test

#include "kernels/cuda/gemm_choice.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/gemm.hpp"
#include "tests/support/gpu.hpp"
#include "tests/support/tensors.hpp"

namespace causeway::test {
namespace {

/// A way to compute something; no result: it fails.
struct Way {
  std::optional<std::uint64_t> result;
  double seconds;
};

std::size_t choice_of(const std::vector<Way>& ways) {
  return cuda::fastest_with_the_same_result(
      ways.size(), [&](std::size_t i) { return ways[i].result; },
      [&](std::size_t i) {
        EXPECT_EQ(ways[i].result, ways[0].result) << "a way that cannot be chosen is measured";
        return ways[i].seconds;
      });
}

TEST(GemmChoice, IsTheFastestWayWithTheResultOfTheFirst) {
  EXPECT_EQ(choice_of({{7, 3.0}}), 0U);
  EXPECT_EQ(choice_of({{7, 3.0}, {7, 2.0}, {7, 1.0}, {7, 2.5}}), 2U);
  EXPECT_EQ(choice_of({{7, 3.0}, {8, 1.0}, {7, 2.0}}), 2U);
  EXPECT_EQ(choice_of({{7, 3.0}, {8, 1.0}, {9, 2.0}}), 0U);
}

TEST(GemmChoice, StaysWithTheFirstWayIfOthersFailOrGainLessThanTheNoise) {
  EXPECT_EQ(choice_of({{7, 3.0}, {{}, 1.0}, {7, 2.0}}), 2U);
  EXPECT_EQ(choice_of({{7, 3.0}, {{}, 1.0}}), 0U);
  EXPECT_EQ(choice_of({{{}, 3.0}, {{}, 1.0}, {7, 1.0}}), 0U);
  EXPECT_EQ(choice_of({{7, 3.0}, {7, 2.98}}), 0U);
}

TEST(GemmChoice, CountsTheLeastOfThreeTimesOfEachWay) {
  const std::vector<std::vector<double>> seconds{{5, 2, 5}, {4, 4, 1}, {3, 3, 3}};
  std::vector<std::size_t> turns(3, 0);
  EXPECT_EQ(cuda::fastest_with_the_same_result(
                3, [](std::size_t) { return std::optional<std::uint64_t>(1); },
                [&](std::size_t i) { return seconds[i].at(turns[i]++); }),
            1U);
  EXPECT_EQ(turns, (std::vector<std::size_t>{3, 3, 3}));
}

/// The algorithm of a product may change between its calls, which must not show in the result.
TEST(GemmChoiceOnGpu, AProductHasTheSameBitsInEveryCall) {
  const std::optional<Stream> gpu = gpu_stream();
  if (!gpu) GTEST_SKIP() << "no usable GPU";
  const Stream cpu;
  struct Case {
    std::int64_t m, n, k;
    bool transpose_a, transpose_b;
    DType to;
    double beta;
  };
  // Of a small Mamba: projections, Δ's and their weights' gradients; a head whose gradient is added in parts.
  for (const auto& [m, n, k, transpose_a, transpose_b, to, beta] :
       {Case{2048, 3072, 768, false, true, DType::bf16, 0}, Case{2048, 768, 3072, false, false, DType::bf16, 0},
        Case{3072, 768, 2048, true, false, DType::f32, 0}, Case{80, 1536, 8192, true, false, DType::f32, 0},
        Case{1536, 48, 8192, true, false, DType::f32, 1}, Case{8192, 1536, 80, false, false, DType::bf16, 1},
        Case{1000, 768, 5028, true, false, DType::f32, 1}, Case{2041, 80, 4096, false, true, DType::bf16, 0}}) {
    const auto made = [&](DType dtype, Shape shape, std::uint64_t seed) {
      return moved(random_tensor(cpu, dtype, shape, seed), cpu, *gpu);
    };
    const Tensor a = made(DType::bf16, transpose_a ? Shape{k, m} : Shape{m, k}, 1),
                 b = made(DType::bf16, transpose_b ? Shape{n, k} : Shape{k, n}, 2), start = made(to, {m, n}, 3),
                 c(*gpu, to, {m, n});
    Tensor first;
    for (int call = 0; call < 12; ++call) {
      gpu->copy(c.view().data, start.view().data, start.view().bytes());
      gemm(*gpu, {.a = a, .b = b, .transpose_a = transpose_a, .transpose_b = transpose_b, .beta = beta, .c = c});
      Tensor result = moved(c, *gpu, cpu);
      if (call == 0)
        first = std::move(result);
      else
        EXPECT_TRUE(same_bits(first, result)) << m << " " << n << " " << k << " call " << call;
    }
  }
}

}  // namespace
}  // namespace causeway::test

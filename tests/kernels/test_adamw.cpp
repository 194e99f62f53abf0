#include "kernels/adamw.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/activation.hpp"
#include "tests/support/gpu.hpp"
#include "tests/support/tensors.hpp"
#include "tests/support/threads.hpp"

namespace causeway::test {
namespace {

struct State {
  Tensor gradient, master, exp_avg, exp_avg_sq;

  State(const Stream& stream, DType dtype, std::int64_t size)
      : gradient(random_tensor(stream, dtype, {size}, 1)),
        master(random_tensor(stream, dtype, {size}, 2)),
        exp_avg(random_tensor(stream, dtype, {size}, 3)),
        exp_avg_sq(random_tensor(stream, dtype, {size}, 4, 0, 1)) {}

  void step(const Stream& stream, std::int64_t number) const {
    adamw(stream, {.gradient = gradient,
                   .gradient_scale = 0.25,
                   .learning_rate = 0.01,
                   .beta1 = 0.9,
                   .beta2 = 0.95,
                   .eps = 1e-8,
                   .weight_decay = 0.1,
                   .step = number,
                   .master = master,
                   .exp_avg = exp_avg,
                   .exp_avg_sq = exp_avg_sq});
  }
};

class AdamWOfBothTypes : public testing::TestWithParam<DType> {};

TEST_P(AdamWOfBothTypes, EqualsTheFormulaInFloat64) {
  const Stream stream;
  for (const std::int64_t size : {0, 1, 31, 20000})
    for (const std::int64_t number : {1, 2, 1000}) {
      const State state(stream, GetParam(), size);
      auto g = values_of(state.gradient), p = values_of(state.master), m = values_of(state.exp_avg),
           v = values_of(state.exp_avg_sq);
      for (std::size_t i = 0; i < g.size(); ++i) {
        g[i] *= 0.25;
        m[i] = 0.9 * m[i] + 0.1 * g[i];
        v[i] = 0.95 * v[i] + 0.05 * g[i] * g[i];
        const double m_hat = m[i] / (1 - std::pow(0.9, number)), v_hat = v[i] / (1 - std::pow(0.95, number));
        p[i] -= 0.01 * (m_hat / (std::sqrt(v_hat) + 1e-8) + 0.1 * p[i]);
      }
      state.step(stream, number);
      const double tolerance = 8 * rounding_of(GetParam());
      EXPECT_LT(relative_error(values_of(state.exp_avg), m), tolerance);
      EXPECT_LT(relative_error(values_of(state.exp_avg_sq), v), tolerance);
      EXPECT_LT(relative_error(values_of(state.master), p), tolerance);
    }
}

TEST_P(AdamWOfBothTypes, WritesTheRoundedWeightsIfTheFactorIsFinite) {
  const Stream stream;
  for (const DType narrow : {DType::bf16, GetParam()}) {
    if (accumulator_of(narrow) != GetParam()) continue;
    const State state(stream, GetParam(), 5000);
    const Tensor weights(stream, narrow, {5000}), rounded(stream, narrow, {5000}), factor(stream, DType::f64, {1});
    for (const double value : {1.0, std::numeric_limits<double>::quiet_NaN()}) {
      assign(factor, std::vector<double>{value});
      if (std::isfinite(value)) scale(stream, {.x = state.master, .y = weights});
      adamw(stream, {.gradient = state.gradient,
                     .factor = factor,
                     .learning_rate = 0.01,
                     .step = 1,
                     .master = state.master,
                     .exp_avg = state.exp_avg,
                     .exp_avg_sq = state.exp_avg_sq,
                     .weights = weights});
      scale(stream, {.x = state.master, .y = rounded});
      EXPECT_TRUE(same_bits(weights, rounded)) << value;
    }
  }
}

TEST_P(AdamWOfBothTypes, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Stream stream;
  const State one(stream, GetParam(), 40001);
  with_threads(1, [&] { one.step(stream, 3); });
  for (const int threads : {2, 3, 5}) {
    const State several(stream, GetParam(), 40001);
    with_threads(threads, [&] { several.step(stream, 3); });
    EXPECT_TRUE(same_bits(one.master, several.master) && same_bits(one.exp_avg, several.exp_avg) &&
                same_bits(one.exp_avg_sq, several.exp_avg_sq));
  }
}

// Sharded optimizer state (ZeRO-1) needs this: each rank updates only its piece, and the result must be the same as on
// one rank.
TEST_P(AdamWOfBothTypes, GivesTheSameBitsInPieces) {
  const Stream stream;
  const State whole(stream, GetParam(), 10007), pieces(stream, GetParam(), 10007);
  whole.step(stream, 2);
  for (const auto& [begin, end] : {std::pair{0, 3333}, {3333, 3334}, {3334, 10007}}) {
    const auto of = [&, from = begin, count = end - begin](const Tensor& x) {
      return x.view().slice_rows(from, count);
    };
    adamw(stream, {.gradient = of(pieces.gradient),
                   .gradient_scale = 0.25,
                   .learning_rate = 0.01,
                   .weight_decay = 0.1,
                   .step = 2,
                   .master = of(pieces.master),
                   .exp_avg = of(pieces.exp_avg),
                   .exp_avg_sq = of(pieces.exp_avg_sq)});
  }
  EXPECT_TRUE(same_bits(whole.master, pieces.master) && same_bits(whole.exp_avg, pieces.exp_avg) &&
              same_bits(whole.exp_avg_sq, pieces.exp_avg_sq));
}

INSTANTIATE_TEST_SUITE_P(Types, AdamWOfBothTypes, testing::Values(DType::f64, DType::f32),
                         dtype_name<testing::TestParamInfo<DType>>);

TEST(AdamW, RefusesStepZeroAndMixedTypes) {
  const Stream stream;
  const State state(stream, DType::f32, 4), other(stream, DType::f64, 4);
  EXPECT_THROW(state.step(stream, 0), Error);
  EXPECT_THROW(adamw(stream, {.gradient = state.gradient,
                              .master = other.master,
                              .exp_avg = state.exp_avg,
                              .exp_avg_sq = state.exp_avg_sq}),
               Error);
}

TEST(AdamW, AFactorThatIsNotFiniteChangesNothing) {
  const Stream stream;
  const auto vector = [&](double first) {
    return tensor_of(stream, DType::f32, {3}, std::vector<double>{first, 2, 3});
  };
  const Tensor gradient = vector(1), master = vector(4), exp_avg = vector(5), exp_avg_sq = vector(6);
  const auto step = [&](double factor) {
    const Tensor by = tensor_of(stream, DType::f64, {1}, std::vector<double>{factor});
    adamw(stream, {.gradient = gradient,
                   .factor = by,
                   .learning_rate = 0.1,
                   .master = master,
                   .exp_avg = exp_avg,
                   .exp_avg_sq = exp_avg_sq});
  };
  step(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(values_of(master), values_of(vector(4)));
  EXPECT_EQ(values_of(exp_avg), values_of(vector(5)));
  EXPECT_EQ(values_of(exp_avg_sq), values_of(vector(6)));
  step(1);
  EXPECT_NE(values_of(master), values_of(vector(4)));
}

/// Fused multiply-add would round once where these round twice.
TEST(AdamW, EveryProductAndSumIsRounded) {
  const Stream stream;
  constexpr std::int64_t size = 10'000;
  const Tensor gradient = random_tensor(stream, DType::f32, {size}, 1),
               master = random_tensor(stream, DType::f32, {size}, 2),
               exp_avg = random_tensor(stream, DType::f32, {size}, 3),
               exp_avg_sq = random_tensor(stream, DType::f32, {size}, 4, 0);
  const std::vector<double> g0 = values_of(gradient), w0 = values_of(master), m0 = values_of(exp_avg),
                            v0 = values_of(exp_avg_sq);
  adamw(stream, {.gradient = gradient,
                 .gradient_scale = 0.7,
                 .learning_rate = 0.01,
                 .weight_decay = 0.1,
                 .step = 3,
                 .master = master,
                 .exp_avg = exp_avg,
                 .exp_avg_sq = exp_avg_sq});
  const auto rounded = [](double x) { return double{static_cast<float>(x)}; };
  const auto product = [&](double a, double b) { return rounded(a * b); };  // exact in f64 before
  const double scale = rounded(0.7), rate = rounded(0.01), decay = rounded(0.1), eps = rounded(1e-8),
               beta1 = rounded(0.9), beta2 = rounded(0.95), c1 = rounded(1 / (1 - std::pow(0.9, 3))),
               c2 = rounded(1 / (1 - std::pow(0.95, 3)));
  for (std::size_t i = 0; i < g0.size(); ++i) {
    const double g = product(scale, g0[i]), m = rounded(product(beta1, m0[i]) + product(rounded(1 - 0.9), g)),
                 v = rounded(product(beta2, v0[i]) + product(product(rounded(1 - 0.95), g), g)),
                 root = rounded(std::sqrt(product(c2, v))), update = rounded(product(c1, m) / rounded(root + eps)),
                 w = rounded(w0[i] - product(rate, rounded(update + product(decay, w0[i]))));
    ASSERT_EQ(values_of(exp_avg.view().slice_rows(static_cast<std::int64_t>(i), 1))[0], m);
    ASSERT_EQ(values_of(exp_avg_sq.view().slice_rows(static_cast<std::int64_t>(i), 1))[0], v);
    ASSERT_EQ(values_of(master.view().slice_rows(static_cast<std::int64_t>(i), 1))[0], w);
  }
}

TEST(AdamWOnGpu, HasTheBitsOfTheCpu) {
  const std::optional<Stream> gpu = gpu_stream();
  if (!gpu) GTEST_SKIP() << "no usable GPU";
  const Stream cpu;
  for (const DType dtype : floating_types)
    for (const std::int64_t size : {1, 1023, 300'001}) {
      const DType wide = accumulator_of(dtype);
      std::vector<Tensor> found;
      for (const Stream& stream : {cpu, *gpu}) {
        const auto made = [&](std::uint64_t seed, double low) {
          return moved(random_tensor(cpu, wide, {size}, seed, low, 1), cpu, stream);
        };
        const Tensor gradient = made(1, -1), master = made(2, -1), exp_avg = made(3, -1), exp_avg_sq = made(4, 0),
                     rounded(stream, dtype, {size});
        for (std::int64_t step = 1; step <= 20; ++step)
          adamw(stream, {.gradient = gradient,
                         .gradient_scale = 0.7,
                         .learning_rate = 0.01,
                         .weight_decay = 0.1,
                         .step = step,
                         .master = master,
                         .exp_avg = exp_avg,
                         .exp_avg_sq = exp_avg_sq,
                         .weights = rounded});
        for (const Tensor* x : {&rounded, &master, &exp_avg, &exp_avg_sq}) found.push_back(moved(*x, stream, cpu));
      }
      for (std::size_t i = 0; i < 4; ++i)
        EXPECT_TRUE(same_bits(found[i], found[4 + i])) << name_of(dtype) << " " << size << " " << i;
    }
}

/// As many calls as the background needs some milliseconds for: a copy that does not wait for them is too early.
TEST(AdamWOnGpu, InTheBackgroundGivesTheSameBits) {
  const std::optional<Stream> gpu = gpu_stream();
  if (!gpu) GTEST_SKIP() << "no usable GPU";
  const Stream cpu;
  std::int64_t calls = 0;  // in the background
  for (const std::int64_t size : {1, 1023, 16'000'001}) {
    const auto made = [&](double low) { return moved(random_tensor(cpu, DType::f32, {size}, 1, low, 1), cpu, *gpu); };
    std::vector<Tensor> weights;
    for (const bool in_background : {false, true}) {
      const Tensor gradient = made(-1), master = made(-1), exp_avg = made(-1), exp_avg_sq = made(0),
                   rounded(*gpu, DType::bf16, {size});
      constexpr std::int64_t steps = 60;
      for (std::int64_t step = 1; step <= steps; ++step)
        adamw(*gpu, {.gradient = gradient,
                     .learning_rate = 0.1,
                     .step = step,
                     .master = master,
                     .exp_avg = exp_avg,
                     .exp_avg_sq = exp_avg_sq,
                     .weights = rounded,
                     .in_background = in_background});
      if (in_background) await_adamw(*gpu, {.calls = calls += steps});
      for (const Tensor* x : {&rounded, &master, &exp_avg, &exp_avg_sq}) weights.push_back(moved(*x, *gpu, cpu));
    }
    for (std::size_t i = 0; i < 4; ++i) EXPECT_TRUE(same_bits(weights[i], weights[4 + i])) << size << " " << i;
  }
  EXPECT_THROW(await_adamw(*gpu, {.calls = 1000}), Error);
}

TEST(GradientFactor, ScalesAndClipsAndIsNanForNonFiniteInput) {
  struct Row {
    double squares, loss, clip, norm, factor;
  };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const Stream stream;
  for (const Row& row : {Row{16, 1, 0, 2, 0.5}, Row{16, 1, 3, 2, 0.5}, Row{16, 1, 0.5, 2, 0.125}, Row{0, 1, 1, 0, 0.5},
                         Row{16, nan, 1, 2, nan}, Row{16, infinity, 1, 2, nan}, Row{infinity, 1, 1, infinity, nan},
                         Row{nan, 1, 1, nan, nan}}) {
    const auto one = [&](double value) { return tensor_of(stream, DType::f64, {1}, std::vector<double>{value}); };
    const Tensor squares = one(row.squares), loss = one(row.loss), norm = one(7), factor = one(7);
    gradient_factor(stream,
                    {.squares = squares, .loss = loss, .scale = 0.5, .clip = row.clip, .norm = norm, .factor = factor});
    const auto same = [](double got, double want) { return std::isnan(want) ? std::isnan(got) : got == want; };
    EXPECT_TRUE(same(values_of(norm)[0], row.norm)) << row.squares;
    EXPECT_TRUE(same(values_of(factor)[0], row.factor)) << row.squares << " " << row.loss << " " << row.clip;
  }
}

}  // namespace
}  // namespace causeway::test

#include "src/infer/sampling.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/core/error.hpp"
#include "kernels/core/random.hpp"

namespace causeway::test {
namespace {

const std::vector<double> logits{0, 2, -1, 2, 1, -std::numeric_limits<double>::infinity()};

/// The share of draws that each token gets.
std::array<double, 6> shares(const SamplingOptions& options) {
  constexpr int draws = 20'000;
  const RandomStream random(1, 2);
  std::array<double, 6> share{};
  for (std::uint64_t i = 0; i < draws; ++i)
    share[static_cast<std::size_t>(sample(logits, options, random.uniform(i)))] += 1.0 / draws;
  return share;
}

TEST(Sampling, DrawsFromTheSoftmaxAtATemperature) {
  for (const double temperature : {0.5, 1.0, 3.0}) {
    const auto share = shares({.temperature = temperature});
    double sum = 0;
    for (const double logit : logits) sum += std::exp(logit / temperature);
    for (std::size_t i = 0; i < share.size(); ++i)
      EXPECT_NEAR(share[i], std::exp(logits[i] / temperature) / sum, 0.015) << temperature << " " << i;
  }
}

TEST(Sampling, AllowedTokensAreChosenBeforeTheOtherOptions) {
  const auto share = shares({.allowed = {0, 2, 4}, .top_k = 2});
  EXPECT_EQ(share[1] + share[2] + share[3] + share[5], 0);
  EXPECT_NEAR(share[4], std::exp(1) / (1 + std::exp(1)), 0.015);
  EXPECT_EQ(sample(logits, {.allowed = {0, 2, 4}, .temperature = 0}, 0.5), 4);
}

TEST(Sampling, TopPDrawsFromTheLikelyTokensThatReachIt) {
  const double all = 2 * std::exp(2) + std::exp(1) + 1 + std::exp(-1);
  const auto two = shares({.top_p = 2 * std::exp(2) / all - 1e-9}),
             three = shares({.top_p = 2 * std::exp(2) / all + 1e-9});
  EXPECT_NEAR(two[1], 0.5, 0.015);
  EXPECT_EQ(two[0] + two[2] + two[4] + two[5], 0);
  EXPECT_NEAR(three[4], std::exp(1) / (2 * std::exp(2) + std::exp(1)), 0.015);
  EXPECT_EQ(three[0] + three[2] + three[5], 0);
  EXPECT_NEAR(shares({.top_p = 1e-9})[1], 1, 1e-9);
}

TEST(Sampling, TopKDrawsOnlyTheMostLikelyTokens) {
  const auto share = shares({.top_k = 3});
  EXPECT_EQ(share[0] + share[2] + share[5], 0);
  EXPECT_NEAR(share[4] / share[1], std::exp(-1), 0.03);
  EXPECT_EQ(shares({.top_k = 1})[3], 0);  // of two equal logits the first is taken
  EXPECT_GT(shares({.top_k = 100})[2], 0);
}

TEST(Sampling, TemperatureZeroTakesTheMostLikelyToken) {
  for (const double uniform : {1e-9, 0.5, 1 - 1e-9}) EXPECT_EQ(sample(logits, {.temperature = 0}, uniform), 1);
}

TEST(Sampling, TheLeastAndTheLargestUniformNumberGiveATokenEach) {
  EXPECT_EQ(sample(logits, {}, 1e-300), 1);
  EXPECT_EQ(sample(std::vector<double>{0, 0}, {}, 1 - 0x1p-53), 1);
}

TEST(Sampling, NonFiniteLogitsAreRefused) {
  for (const double wrong : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) try {
      sample(std::vector<double>{0, wrong}, {}, 0.5);
      FAIL() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::non_finite);
    }
}

}  // namespace
}  // namespace causeway::test

#include "src/model/optimizer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "src/model/dense/dense.hpp"
#include "tests/src/model_support.hpp"

namespace causeway::test {
namespace {

/// Three parameters in two arenas of 5 + 3 and 4 elements: no number of ranks but 1, 2 and 4 divides both.
void add_parameters(ParameterSet& parameters) {
  const auto initial = [](const RandomStream& random, std::int64_t i) {
    return random.normal(static_cast<std::uint64_t>(i));
  };
  parameters.add({.name = "a", .shape = {5}, .decay = true, .initial = initial});
  parameters.add({.name = "b", .shape = {2, 2}, .wide = true, .initial = initial});
  parameters.add({.name = "c", .shape = {3}, .decay = true, .initial = initial});
}

constexpr OptimizerOptions options{.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-8, .weight_decay = 0.1, .clip = 1.5};
constexpr int steps = 6;
double gradient_at(int step, std::size_t parameter, std::size_t i) {
  return std::sin(1.0 + 3 * step + 7 * double(parameter) + double(i));
}
double rate_at(int step) { return 0.01 * (step + 1); }

/// AdamW's formula in float64 on whole tensors: weights, moments, and the gradient norm of each step.
struct Reference {
  std::vector<std::vector<double>> w, m, v;
  std::vector<double> norms;
};
Reference reference_run(const std::vector<std::vector<double>>& start) {
  Reference n{start, {}, {}, {}};
  for (const auto& w : start) n.m.emplace_back(w.size(), 0), n.v.emplace_back(w.size(), 0);
  for (int step = 1; step <= steps; ++step) {
    double squares = 0;
    for (std::size_t p = 0; p < start.size(); ++p)
      for (std::size_t i = 0; i < start[p].size(); ++i) squares += std::pow(gradient_at(step, p, i), 2);
    n.norms.push_back(std::sqrt(squares));
    const double clip = std::min(1.0, options.clip / std::sqrt(squares));
    for (std::size_t p = 0; p < start.size(); ++p)
      for (std::size_t i = 0; i < start[p].size(); ++i) {
        const double g = clip * gradient_at(step, p, i), decay = p == 1 ? 0 : options.weight_decay;
        n.m[p][i] = options.beta1 * n.m[p][i] + (1 - options.beta1) * g;
        n.v[p][i] = options.beta2 * n.v[p][i] + (1 - options.beta2) * g * g;
        const double m = n.m[p][i] / (1 - std::pow(options.beta1, step)),
                     v = n.v[p][i] / (1 - std::pow(options.beta2, step));
        n.w[p][i] -= rate_at(step) * (m / (std::sqrt(v) + options.eps) + decay * n.w[p][i]);
      }
  }
  return n;
}

/// What ends the backward pass of a model.
void finish_pass(ParameterSet& parameters, const Stream& stream) {
  for (std::size_t group = 0; group < parameters.groups(); ++group) parameters.finish_gradients(group, stream);
  parameters.sum_gradients(stream);
}

/// Sets each rank's gradients so that they sum to gradient_at / scale.
void set_gradients(const ParameterSet& parameters, int step, int rank, int ranks, double scale) {
  std::size_t p = 0;
  for (const Parameter& parameter : parameters.parameters()) {
    std::vector<double> values(static_cast<std::size_t>(parameter.gradient.size()));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = gradient_at(step, p, i) / scale * 2 * (rank + 1) / (ranks * (ranks + 1));
    assign(parameter.gradient, values);
    ++p;
  }
}

TEST(Optimizer, ShardedOverAnyRanksEqualsAdamWOnOne) {
  for (const int ranks : {1, 2, 3, 4, 7}) {
    std::vector<std::vector<double>> start, end;
    std::vector<double> norms;
    std::mutex writing;
    on_ranks(ranks, [&](Communicator& world) {
      const Stream stream;
      ParameterSet parameters(DType::f64);
      add_parameters(parameters);
      parameters.allocate(stream, world, {});
      parameters.initialise(1, stream);
      std::vector<std::vector<double>> first, last;
      for (const Parameter& parameter : parameters.parameters()) first.push_back(values_of(parameter.weight));
      Optimizer optimizer(options, parameters, world, stream);
      std::vector<double> seen;
      for (int step = 1; step <= steps; ++step) {
        parameters.zero_gradients(stream);
        set_gradients(parameters, step, world.rank(), world.size(), 0.25);
        finish_pass(parameters, stream);
        seen.push_back(step_now(optimizer, stream, step, rate_at(step), 0.25).gradient_norm);
      }
      for (const Parameter& parameter : parameters.parameters()) last.push_back(values_of(parameter.weight));
      const std::lock_guard lock(writing);
      if (world.rank() == world.size() - 1) start = first, end = last, norms = seen;
    });
    if (testing::Test::IsSkipped()) return;
    if (start.empty()) continue;  // another process has the last rank
    const Reference expected = reference_run(start);
    EXPECT_LT(relative_error(norms, expected.norms), 1e-12);
    for (std::size_t p = 0; p < start.size(); ++p)
      EXPECT_LT(relative_error(end[p], expected.w[p]), 1e-12) << ranks << " ranks, parameter " << p;
  }
}

TEST(Optimizer, NonFiniteGradientsChangeNothing) {
  on_ranks(2, [](Communicator& world) {
    const Stream stream;
    ParameterSet parameters(DType::f32);
    add_parameters(parameters);
    parameters.allocate(stream, world, {});
    parameters.initialise(1, stream);
    Optimizer optimizer(options, parameters, world, stream);
    const auto before = values_of(parameters.arenas()[0].weights);
    set_gradients(parameters, 1, world.rank(), 2, 1);
    if (world.rank() == 1) assign(parameters.parameters()[2].gradient, std::vector<double>{1, INFINITY, 1});
    finish_pass(parameters, stream);
    const OptimizerStep result = step_now(optimizer, stream, 1, 0.1, 1);
    EXPECT_FALSE(std::isfinite(result.factor));
    EXPECT_EQ(values_of(parameters.arenas()[0].weights), before);
  });
}

TEST(Optimizer, FrozenParametersKeepTheirInitialValues) {
  on_ranks(2, [](Communicator& world) {
    const Stream stream;
    ParameterSet parameters(DType::f32);
    parameters.add({.name = "trained", .shape = {5}, .initial = [](const RandomStream&, std::int64_t) { return 1.0; }});
    const Parameter& frozen = parameters.add(
        {.name = "frozen", .shape = {5}, .frozen = true, .initial = [](const RandomStream&, std::int64_t i) {
           return 0.5 * double(i);
         }});
    parameters.allocate(stream, world, {});
    parameters.initialise(1, stream);
    const auto before = values_of(frozen.weight);
    Optimizer optimizer(options, parameters, world, stream);
    parameters.zero_gradients(stream);
    assign(parameters.parameters()[0].gradient, std::vector<double>(5, 1));
    finish_pass(parameters, stream);
    step_now(optimizer, stream, 1, 0.1, 1);
    EXPECT_EQ(values_of(frozen.weight), before);
    EXPECT_LT(values_of(parameters.parameters()[0].weight)[0], 1);
    EXPECT_FALSE(frozen.gradient.present());
    EXPECT_EQ(parameters.count(), 5);
  });
}

TEST(ParameterSet, TheFirstProductOfAStepOverwritesAndTheOthersAreAdded) {
  const Stream stream;
  ParameterSet parameters(DType::f32);
  const auto zero = [](const RandomStream&, std::int64_t) { return 0.0; };
  parameters.add({.name = "before", .shape = {3}, .decay = true, .initial = zero});
  const Parameter& weight =
      parameters.add({.name = "weight", .shape = {2, 1}, .decay = true, .product = true, .initial = zero});
  const Parameter& idle =
      parameters.add({.name = "idle", .shape = {2, 1}, .decay = true, .product = true, .initial = zero});
  parameters.add({.name = "after", .shape = {2}, .decay = true, .initial = zero});
  parameters.allocate(stream);
  const Tensor d_y(stream, DType::f32, {1, 2}), x(stream, DType::f32, {1, 1});
  assign(d_y, std::vector<double>{2, 3});
  assign(x, std::vector<double>{5});
  for (int step = 0; step < 2; ++step) {
    assign(parameters.arenas()[0].gradients, std::vector<double>(9, std::nan("")));
    parameters.zero_gradients(stream);
    for (int passes = 1; passes <= 2; ++passes) {
      add_product(stream, weight, d_y, x);
      EXPECT_EQ(values_of(weight.gradient), (std::vector<double>{10.0 * passes, 15.0 * passes}));
    }
    parameters.finish_gradients(stream);
    EXPECT_EQ(values_of(idle.gradient), (std::vector<double>{0, 0}));
    EXPECT_EQ(values_of(parameters.arenas()[0].gradients), (std::vector<double>{0, 0, 0, 20, 30, 0, 0, 0, 0}));
  }
}

TEST(LearningRate, RisesLinearlyThenFallsAsACosine) {
  const LearningRate rate{.peak = 2, .warmup_steps = 4, .steps = 104, .floor = 0.25};
  EXPECT_DOUBLE_EQ(rate.at(1), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(4), 2);
  EXPECT_DOUBLE_EQ(rate.at(54), 2 * (0.25 + 0.75 / 2));
  EXPECT_DOUBLE_EQ(rate.at(104), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(1000), 0.5);
  EXPECT_DOUBLE_EQ((LearningRate{.peak = 3, .steps = 1}).at(1), 3 * 0.1);
}

TEST(ParameterSet, InitialValuesDoNotDependOnTheNumberOfShards) {
  const Stream stream;
  ParameterSet one(DType::f32), three(DType::f32);
  for (ParameterSet* set : {&one, &three}) add_parameters(*set);
  one.allocate(stream, 1);
  three.allocate(stream, 3);
  one.initialise(9, stream);
  three.initialise(9, stream);
  for (std::size_t p = 0; p < 3; ++p)
    EXPECT_EQ(values_of(one.parameters()[p].weight), values_of(three.parameters()[p].weight));
  EXPECT_NE(values_of(one.parameters()[0].weight)[0], values_of(one.parameters()[2].weight)[0]);
  EXPECT_EQ(three.count(), 12);
}

}  // namespace
}  // namespace causeway::test

#include "tests/src/model_support.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

namespace causeway::test {

WholePack random_pack(Segments segments, std::int64_t vocabulary, std::uint64_t seed) {
  WholePack pack{.segments = std::move(segments)};
  const RandomStream random(seed, 99);
  for (std::int64_t t = 0; t < pack.tokens(); ++t)
    pack.ids.push_back(static_cast<std::int32_t>(random.below(t, vocabulary)));
  for (std::int64_t t = 0; t < pack.tokens(); ++t)
    pack.labels.push_back(pack.segments.end_of(t) == t + 1 ? -1 : pack.ids[static_cast<std::size_t>(t + 1)]);
  return pack;
}

RankPack shard(const WholePack& pack, const Runtime& runtime, Layout layout) {
  const Communicator& context = runtime.mesh.context;
  RankPack part;
  part.sharding = std::make_unique<Sharding>(ShardLayout(pack.tokens(), context.size(), layout), pack.segments,
                                             context.rank(), runtime.stream);
  const auto local = [&](const std::vector<std::int32_t>& whole) {
    std::vector<std::int32_t> mine(static_cast<std::size_t>(part.sharding->local_tokens()));
    for (const Chunk& chunk : part.sharding->chunks())
      std::copy(whole.begin() + chunk.tokens.begin, whole.begin() + chunk.tokens.end, mine.begin() + chunk.first_row);
    return on_device<std::int32_t>(runtime.stream, mine);
  };
  part.ids = local(pack.ids);
  part.labels = local(pack.labels);
  return part;
}

ModelOptions small_mixed_model() {
  std::vector<std::string> names;
  for (const Layer& layer : layers()) names.emplace_back(layer.name);
  return small_model_of(std::move(names));
}

ModelOptions small_published_model() {
  ModelOptions shape = small_mixed_model();
  shape.vocabulary = 13;
  shape.rope_base = 100;
  shape.rope_scaling = 1.5;
  shape.rope_stored = shape.out_bias = true;
  shape.se_skip = false;
  shape.norm_eps = 0.1;
  shape.norm_form = "outside";
  shape.tied_head = false;
  return shape;
}

namespace {

/// Calls visit(operator, names of its strategies that work on the layout).
template <class Visit>
void for_each_operator(Layout layout, const Visit& visit) {
  const auto names = [&](const auto& table) {
    std::vector<std::string> found;
    for (const auto& row : table)
      if (std::ranges::find(row.layouts, layout) != row.layouts.end()) found.emplace_back(row.name);
    return found;
  };
  visit("causal_conv", names(convolution_strategies()));
  visit("hyena_se", names(gated_convolution_strategies()));
  visit("hyena_mr", names(gated_convolution_strategies()));
  visit("hyena_li", names(modal_convolution_strategies()));
  visit("attention", names(attention_strategies()));
  visit("selective_scan", names(selective_scan_strategies()));
}

}  // namespace

StrategyNames strategies_in_turn(int turn, Layout layout) {
  StrategyNames chosen;
  for_each_operator(layout, [&](const char* op, const std::vector<std::string>& names) {
    chosen[op] = names[static_cast<std::size_t>(turn) % names.size()];
  });
  return chosen;
}

int strategy_turns() {
  std::size_t most = 0;
  for_each_operator(Layout::contiguous, [&](const char*, const auto& names) { most = std::max(most, names.size()); });
  return static_cast<int>(most);
}

Runtime one_rank_runtime(Communicator world, Schedule schedule, StrategyNames strategies) {
  return {.stream = Stream(),
          .mesh = Mesh(std::move(world), 0, 0),
          .strategies = std::move(strategies),
          .schedule = schedule};
}

double train_now(Model& model, const Pass& pass, const Batch& batch) {
  const Tensor loss = Tensor::zeros(pass.runtime.stream, DType::f64, {1});
  model.train(pass, batch, loss);
  return host_values<double>(pass.runtime.stream, loss)[0];
}

OptimizerStep step_now(Optimizer& optimizer, const Stream& stream, std::int64_t step, double learning_rate,
                       double gradient_scale) {
  const Tensor norm(stream, DType::f64, {1}), factor(stream, DType::f64, {1});
  optimizer.step(step, learning_rate, gradient_scale, {}, norm, factor);
  return {host_values<double>(stream, norm)[0], host_values<double>(stream, factor)[0]};
}

PassResult run_pass(const Model::Options& options, std::span<const WholePack> packs, const Cut& cut, std::uint64_t seed,
                    const std::function<void(const ParameterSet&)>& change) {
  PassResult result;
  std::int64_t tokens = 0;
  for (const WholePack& pack : packs) tokens += pack.tokens();
  result.token_losses.assign(static_cast<std::size_t>(tokens), 0);
  std::mutex writing;
  on_ranks(cut.ranks, [&](Communicator& world) {
    Runtime runtime = one_rank_runtime(world.split(0, world.rank()), cut.schedule, cut.strategies);
    Model model(options);
    model.parameters().allocate(runtime.stream, 1);
    model.parameters().initialise(seed, runtime.stream);
    if (change) change(model.parameters());
    double loss = 0;
    std::int64_t first = 0;
    for (const WholePack& pack : packs) {
      const RankPack part = shard(pack, runtime, cut.layout);
      const Pass pass{runtime, *part.sharding};
      loss += train_now(model, pass, part.batch());
      const Tensor losses(runtime.stream, accumulator_of(options.dtype), {part.sharding->local_tokens()});
      model.evaluate(pass, part.batch(), losses);
      const std::vector<double> values = values_of(losses);
      const std::lock_guard lock(writing);
      for (const Chunk& chunk : part.sharding->chunks())
        std::copy_n(values.begin() + chunk.first_row, chunk.tokens.size(),
                    result.token_losses.begin() + first + chunk.tokens.begin);
      first += pack.tokens();
    }
    loss = world.sum(loss);
    for (const ParameterArena& arena : model.parameters().arenas())
      if (!arena.frozen) world.all_reduce(arena.gradients, Reduction::sum, runtime.stream);
    const std::lock_guard lock(writing);
    if (world.rank() != 0) return;
    result.loss = loss;
    for (const Parameter& parameter : model.parameters().parameters())
      if (!parameter.spec.frozen) result.gradients[parameter.spec.name] = values_of(parameter.gradient);
  });
  return result;
}

void excite(const ParameterSet& parameters) {
  std::uint64_t stream = 1;
  for (const Parameter& parameter : parameters.parameters()) {
    const RandomStream random(5, stream++);
    std::vector<double> values(static_cast<std::size_t>(parameter.weight.size()));
    const bool wide_delta = parameter.spec.name.ends_with("dt_proj.bias");
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = (random.uniform(i) - 0.5) * 1.2 + (parameter.spec.name.ends_with("norm.weight") ? 1 : 0) -
                  (wide_delta ? 1 : 0);
    assign(parameter.weight, values);
  }
}

void expect_nan_stays_in_its_document(Fp8Level fp8, const Cut& cut, std::int64_t block_tile) {
  // Only the second document contains token 10, whose embedding is set to NaN.
  WholePack pack = random_pack(Segments({0, 9, 20, 31}), 10, 5);
  pack.ids[12] = 10;
  pack.labels[11] = 10;
  const auto set_nan = [](const ParameterSet& parameters) {
    excite(parameters);
    const Parameter& embedding = parameters.parameters().front();
    std::vector<double> values = values_of(embedding.weight);
    std::fill(values.end() - embedding.weight.columns(), values.end(), std::numeric_limits<double>::quiet_NaN());
    assign(embedding.weight, values);
  };
  ModelOptions shape = small_mixed_model();
  shape.tied_head = false;
  const Model::Options options{.shape = shape, .dtype = DType::f64, .fp8 = fp8, .block_tile = block_tile};
  const PassResult clean = run_pass(options, {&pack, 1}, cut, 7, excite),
                   with_nan = run_pass(options, {&pack, 1}, cut, 7, set_nan);
  if (testing::Test::IsSkipped()) return;
  for (std::size_t t = 0; t < 31; ++t) {
    if (t >= 12 && t < 19)
      EXPECT_TRUE(std::isnan(with_nan.token_losses[t])) << t;
    else
      EXPECT_EQ(with_nan.token_losses[t], clean.token_losses[t]) << t;
  }
}

}  // namespace causeway::test

#pragma once

#include <optional>
#include <vector>

#include "src/model/model_update.hpp"
#include "tests/src/model_support.hpp"

/// Shared by tests of what must not change the bits of a training: sharding, offloading.
namespace causeway::test {

/// A short training of a small model.
struct Training {
  Model::Options model;
  int data_parallel = 1;
  int passes = 1;  ///< of a step
  std::optional<DType> gradient_reduce_dtype = {};
  bool offload_optimizer = false;
  int one_way_layers = 1;  ///< with several, gradients are summed after a pass
};

/// What a rank has after some steps. Losses and norms are those of all ranks; weights and moments this rank's.
struct Outcome {
  std::vector<double> losses, norms, state;
  std::vector<double> first_moments;  // after one step: the gradients times a number
  std::int64_t peak_bytes = 0;
  bool operator==(const Outcome& other) const {
    return losses == other.losses && norms == other.norms && state == other.state;
  }
};

inline Outcome train(const Training& training, ShardLevel level, Communicator& world, const Stream& stream,
                     int steps = 3) {
  Runtime runtime{.stream = stream, .mesh = Mesh(world.split(0, world.rank()), training.data_parallel, 0)};
  runtime.one_way_layers = training.one_way_layers;
  Model model(training.model);
  ParameterSet& parameters = model.parameters();
  parameters.allocate(
      runtime.stream, runtime.mesh.world,
      {.level = level, .several_passes = training.passes > 1, .gradient_reduce_dtype = training.gradient_reduce_dtype});
  parameters.initialise(3, runtime.stream);
  Optimizer optimizer({.clip = 0.2, .offload = training.offload_optimizer}, parameters, runtime.mesh.world,
                      runtime.stream);
  ModelUpdate update(runtime, model, optimizer);
  update.update_beside_passes();
  Outcome outcome;
  for (int step = 1; step <= steps; ++step) {
    update.begin();
    for (int pass = 0; pass < training.passes; ++pass) {
      const auto seed = static_cast<std::uint64_t>((step * 10 + pass) * 10 + runtime.mesh.data_index);
      const RankPack part = shard(random_pack(Segments({0, 5, 26, 37}), training.model.shape.vocabulary, seed), runtime,
                                  Layout::contiguous);
      update.add(*part.sharding, part.batch(), 34);
    }
    update.update(step, 0.01, 34.0 * training.passes * training.data_parallel);
    const ModelUpdate::Result result = update.wait_for_result();
    outcome.losses.push_back(result.loss);
    outcome.norms.push_back(result.gradient_norm);
  }
  outcome.peak_bytes = runtime.stream.memory().peak_bytes();
  parameters.await_updates(runtime.stream);
  const RankPack part =
      shard(random_pack(Segments({0, 5, 26, 37}), training.model.shape.vocabulary, 1), runtime, Layout::contiguous);
  const Tensor losses(runtime.stream, accumulator_of(training.model.dtype), {part.sharding->local_tokens()});
  model.evaluate({runtime, *part.sharding}, part.batch(), losses);
  outcome.state = host_values<double>(runtime.stream, losses);
  const auto append = [&](TensorView values) {
    for (const double value : host_values<double>(runtime.stream, values)) outcome.state.push_back(value);
  };
  for (const ShardPiece& piece : parameters.pieces()) append(parameters.weights_of(piece));
  for (const Optimizer::Shard& shard : optimizer.shards())
    if (shard.exp_avg.present())
      for (const double value : host_values<double>(runtime.stream, shard.exp_avg))
        outcome.first_moments.push_back(value);
  for (const Optimizer::Shard& shard : optimizer.shards())
    if (shard.master.present())
      for (const Tensor* values : {&shard.master, &shard.exp_avg, &shard.exp_avg_sq}) append(*values);
  return outcome;
}

}  // namespace causeway::test

#include "src/model/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/activation.hpp"
#include "kernels/adamw.hpp"
#include "kernels/core/trace.hpp"

namespace causeway {

double LearningRate::at(std::int64_t step) const {
  if (step <= warmup_steps) return peak * static_cast<double>(step) / static_cast<double>(warmup_steps);
  const double done =
      static_cast<double>(step - warmup_steps) / static_cast<double>(std::max<std::int64_t>(1, steps - warmup_steps));
  return peak * (floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, done))));
}

Optimizer::Optimizer(const OptimizerOptions& options, ParameterSet& parameters, Communicator& world,
                     const Stream& stream)
    : options_(options), parameters_(parameters), world_(world), stream_(stream) {
  ensure(parameters.shards() == world.size(),
         "parameters are allocated for {} shards, expected one for each of {} ranks", parameters.shards(),
         world.size());
  for (const ParameterArena& arena : parameters.arenas()) {
    if (arena.frozen) {
      shards_.emplace_back();
      continue;
    }
    const Range own = parameters.shard(arena, world.rank());
    const DType wide = accumulator_of(arena.dtype);
    Shard shard{Tensor(stream, wide, {own.size()}), Tensor::zeros(stream, wide, {own.size()}),
                Tensor::zeros(stream, wide, {own.size()})};
    scale(stream, {.x = arena.weights.view().slice_rows(own.begin, own.size()), .y = shard.master});
    shards_.push_back(std::move(shard));
  }
}

void Optimizer::step(std::int64_t step, double learning_rate, double gradient_scale, TensorView loss, TensorView norm,
                     TensorView factor) {
  const ProfileRange range(stream_, "optimizer");
  const auto own = [&](const ParameterArena& arena, TensorView whole) {
    const Range mine = parameters_.shard(arena, world_.rank());
    return whole.slice_rows(mine.begin, mine.size());
  };
  parameters_.finish_gradients(stream_);
  // In place: the sum and the new weights are written into this rank's part of the arenas. A second copy of all
  // gradients would not fit in memory.
  const Tensor squares = Tensor::zeros(stream_, DType::f64, {1});
  for (const ParameterArena& arena : parameters_.arenas()) {
    if (arena.frozen) continue;
    const TensorView mine = own(arena, arena.gradients);
    const std::vector<std::int64_t> counts(static_cast<std::size_t>(world_.size()), mine.size());
    world_.reduce_scatter(arena.gradients, mine, counts, Reduction::sum, stream_);
    sum_of_squares(stream_, {.x = mine, .sum = squares});
  }
  world_.all_reduce(squares, Reduction::sum, stream_);
  gradient_factor(stream_, {.squares = squares,
                            .loss = loss,
                            .scale = gradient_scale,
                            .clip = options_.clip,
                            .norm = norm,
                            .factor = factor});

  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const ParameterArena& arena = parameters_.arenas()[i];
    if (arena.frozen) continue;
    const Shard& shard = shards_[i];
    const TensorView weights = own(arena, arena.weights);
    adamw(stream_, {.gradient = own(arena, arena.gradients),
                    .factor = factor,
                    .learning_rate = learning_rate,
                    .beta1 = options_.beta1,
                    .beta2 = options_.beta2,
                    .eps = options_.eps,
                    .weight_decay = arena.decay ? options_.weight_decay : 0,
                    .step = step,
                    .master = shard.master,
                    .exp_avg = shard.exp_avg,
                    .exp_avg_sq = shard.exp_avg_sq,
                    .weights = weights});
    world_.all_gather(weights.as_bytes(), arena.weights.view().as_bytes(), stream_);
  }
}

}  // namespace causeway

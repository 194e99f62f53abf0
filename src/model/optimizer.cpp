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
    const std::int64_t elements = arena.frozen ? 0 : arena.padded() / world.size();
    const DType wide = accumulator_of(arena.dtype);
    shards_.push_back(arena.frozen ? Shard()
                                   : Shard{Tensor(stream, wide, {elements}), Tensor::zeros(stream, wide, {elements}),
                                           Tensor::zeros(stream, wide, {elements})});
  }
  for (const ShardPiece& piece : parameters.pieces()) {
    const Shard& shard = shards_[piece.arena];
    if (!shard.master.present()) continue;
    pieces_.push_back(piece);
    scale(stream, {.x = parameters.weights_of(piece),
                   .y = shard.master.view().slice_rows(piece.shard.begin, piece.shard.size())});
  }
}

Optimizer::~Optimizer() {
  try {
    parameters_.await_updates(stream_);  // which use the state
  } catch (const std::exception&) {      // of a device that failed: nothing runs there any more
  }
}

void Optimizer::step(std::int64_t step, double learning_rate, double gradient_scale, TensorView loss, TensorView norm,
                     TensorView factor, bool beside_next_pass) {
  const ProfileRange range(stream_, "optimizer");
  parameters_.finish_gradients(stream_);
  const Tensor squares = Tensor::zeros(stream_, DType::f64, {1});
  for (const ShardPiece& piece : pieces_)
    sum_of_squares(stream_, {.x = parameters_.gradients_of(piece), .sum = squares});
  world_.all_reduce(squares, Reduction::sum, stream_);
  gradient_factor(stream_, {.squares = squares,
                            .loss = loss,
                            .scale = gradient_scale,
                            .clip = options_.clip,
                            .norm = norm,
                            .factor = factor});

  AdamW args{.factor = factor,
             .learning_rate = learning_rate,
             .beta1 = options_.beta1,
             .beta2 = options_.beta2,
             .eps = options_.eps,
             .step = step};
  const auto update = [&](const ShardPiece& piece) {
    const Shard& shard = shards_[piece.arena];
    const auto of = [&](TensorView flat) { return flat.slice_rows(piece.shard.begin, piece.shard.size()); };
    args.gradient = parameters_.gradients_of(piece);
    args.weight_decay = parameters_.arenas()[piece.arena].decay ? options_.weight_decay : 0;
    args.master = of(shard.master);
    args.exp_avg = of(shard.exp_avg);
    args.exp_avg_sq = of(shard.exp_avg_sq);
    args.weights = parameters_.weights_of(piece);
    adamw(stream_, args);
  };
  const std::size_t largest = largest_arena();
  const bool in_background =
      beside_next_pass && stream_.device() == Device::cuda && world_.size() == 1 && stream_.trace() == nullptr;
  for (const ShardPiece& piece : pieces_)
    if (!in_background || piece.arena != largest) update(piece);
  parameters_.publish_weights(stream_);
  if (!in_background) return;
  if (!background_factor_.present()) background_factor_ = Tensor(stream_, DType::f64, {1});
  stream_.copy(background_factor_.view().data, factor.data, factor.bytes());
  args.factor = background_factor_;
  args.in_background = true;
  // Parts in the order in which the next pass needs them.
  constexpr std::int64_t least_elements = 1 << 22;
  std::int64_t begin = 0;
  for (std::size_t count = 1; count <= parameters_.parameters().size(); ++count) {
    const Parameter& last = parameters_.parameters()[count - 1];
    const bool ends = count == parameters_.parameters().size();
    if (!ends && (last.arena != largest || last.flat.end < begin + least_elements)) continue;
    const std::int64_t end = ends ? shards_[largest].master.view().size() : last.flat.end;
    if (begin < end) {
      update({.arena = largest, .flat = {begin, end}, .shard = {begin, end}});  // of one rank
      ++background_calls_;
    }
    parameters_.note_update(count, background_calls_);
    begin = end;
  }
}

std::size_t Optimizer::largest_arena() const {
  std::size_t largest = 0;
  for (std::size_t i = 0; i < shards_.size(); ++i)
    if (shards_[i].master.view().size() > shards_[largest].master.view().size()) largest = i;
  return largest;
}

}  // namespace causeway

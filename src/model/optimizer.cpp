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
    const Stream home = options.offload ? stream.host() : stream;
    shards_.push_back(arena.frozen ? Shard()
                                   : Shard{Tensor(home, wide, {elements}), Tensor::zeros(home, wide, {elements}),
                                           Tensor::zeros(home, wide, {elements})});
  }
  for (const ShardPiece& piece : parameters.pieces()) {
    if (!shards_[piece.arena].master.present()) continue;
    pieces_.push_back(piece);
    set_master(piece);
  }
  if (!options.offload) return;
  offloaded_.emplace(stream);
  stream.wait();  // the CPU uses the state from here on
}

/// Converts the weights on the device, some at a time where the master weights are elsewhere.
void Optimizer::set_master(const ShardPiece& piece) const {
  const TensorView weights = parameters_.weights_of(piece),
                   master = shards_[piece.arena].master.view().slice_rows(piece.shard.begin, piece.shard.size());
  if (!options_.offload) return scale(stream_, {.x = weights, .y = master});
  constexpr std::int64_t at_once = OffloadedAdamW::default_piece;
  const Tensor converted(stream_, master.dtype, {std::min(at_once, master.size())});
  for (std::int64_t begin = 0; begin < master.size(); begin += at_once) {
    const std::int64_t count = std::min(at_once, master.size() - begin);
    const TensorView some = converted.view().slice_rows(0, count);
    scale(stream_, {.x = weights.slice_rows(begin, count), .y = some});
    stream_.copy(master.slice_rows(begin, count).data, some.data, some.bytes());
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
  if (offloaded_ || world_.size() > 1) parameters_.await_updates(stream_);
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
  if (offloaded_) return update_on_host(args, beside_next_pass);
  const auto update = [&](const ShardPiece& piece) { adamw(stream_, arguments(args, piece)); };
  const std::size_t largest = largest_arena();
  const bool in_background =
      beside_next_pass && stream_.device() == Device::cuda && world_.size() == 1 && stream_.trace() == nullptr;
  for (const ShardPiece& piece : pieces_)
    if (!in_background || piece.arena != largest) update(piece);
  parameters_.publish_weights(stream_, beside_next_pass && stream_.trace() == nullptr);
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
    parameters_.note_update(
        count, [calls = background_calls_](const Stream& stream) { await_adamw(stream, {.calls = calls}); });
    begin = end;
  }
}

AdamW Optimizer::arguments(const AdamW& step, const ShardPiece& piece) const {
  const Shard& shard = shards_[piece.arena];
  const auto of = [&](TensorView flat) { return flat.slice_rows(piece.shard.begin, piece.shard.size()); };
  AdamW args = step;
  args.gradient = parameters_.gradients_of(piece);
  args.weight_decay = parameters_.arenas()[piece.arena].decay ? options_.weight_decay : 0;
  args.master = of(shard.master);
  args.exp_avg = of(shard.exp_avg);
  args.exp_avg_sq = of(shard.exp_avg_sq);
  args.weights = parameters_.weights_of(piece);
  return args;
}

/// Group by group, in the order in which the next pass needs them. Where ranks hold whole weights, these are gathered
/// when all are updated.
void Optimizer::update_on_host(const AdamW& step, bool beside_next_pass) {
  const bool may_be_beside = beside_next_pass && stream_.trace() == nullptr,
             beside = may_be_beside && (world_.size() == 1 || parameters_.shards_weights());
  offloaded_->begin(step.factor);
  for (std::size_t group = 0; group < parameters_.groups(); ++group) {
    for (const ShardPiece& piece : parameters_.pieces_of(group))
      if (shards_[piece.arena].master.present()) offloaded_->update(arguments(step, piece));
    if (beside) parameters_.note_update(parameters_.parameters_up_to(group), offloaded_->done());
  }
  if (beside) return;
  offloaded_->done()(stream_);
  parameters_.publish_weights(stream_, may_be_beside);
}

std::size_t Optimizer::largest_arena() const {
  std::size_t largest = 0;
  for (std::size_t i = 0; i < shards_.size(); ++i)
    if (shards_[i].master.view().size() > shards_[largest].master.view().size()) largest = i;
  return largest;
}

}  // namespace causeway

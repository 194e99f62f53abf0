#include "src/model/parameters/gradient_sums.hpp"

#include <algorithm>
#include <utility>

#include "kernels/activation.hpp"

namespace causeway {
namespace {

/// Writes zeros to a flat buffer of gradients, from element `begin` of an arena on, except to those of the `product`
/// parameters among `numbers`: these are marked as unwritten.
void zero_all_but_products(std::deque<Parameter>& parameters, Range numbers, std::size_t arena, TensorView buffer,
                           std::int64_t begin, const Stream& stream) {
  std::int64_t done = 0;  // elements of the buffer
  const auto zero_up_to = [&](std::int64_t end) {
    const TensorView rest = buffer.slice_rows(done, end - done);
    if (rest.size() > 0) stream.zero(rest.data, rest.bytes());
  };
  for (std::int64_t i = numbers.begin; i < numbers.end; ++i) {
    const Parameter& parameter = parameters[static_cast<std::size_t>(i)];
    if (parameter.arena != arena || !parameter.spec.product) continue;
    zero_up_to(parameter.flat.begin - begin);
    done = parameter.flat.end - begin;
    parameter.gradient_unwritten = true;
  }
  zero_up_to(buffer.size());
}

}  // namespace

bool GradientSums::keeps_whole() const {
  return std::ranges::any_of(layout_.arenas, [](const ParameterArena& arena) { return arena.gradients.present(); });
}

void GradientSums::begin_step() {
  first_pass_ = true;
  zero_due_ = true;
}

void GradientSums::zero(const Stream& stream) {
  begin_step();
  if (keeps_whole()) zero_whole(stream);
}

void GradientSums::zero_whole(const Stream& stream) {
  zero_due_ = false;
  for (std::size_t i = 0; i < layout_.arenas.size(); ++i)
    if (const Tensor& whole = layout_.arenas[i].gradients; whole.present())
      zero_all_but_products(layout_.parameters, {0, std::ssize(layout_.parameters)}, i, whole, 0, stream);
}

void GradientSums::begin(std::size_t group, const Stream& stream) {
  if (keeps_whole()) {
    if (zero_due_) zero_whole(stream);
    return;
  }
  std::vector<Tensor>& buffers = of_group_[group];
  buffers.clear();
  const Range numbers = layout_.groups[group];
  for (std::size_t i = 0; i < layout_.arenas.size(); ++i) {
    const ParameterArena& arena = layout_.arenas[i];
    const Range part = arena.parts[group].flat;
    Tensor& buffer = buffers.emplace_back();
    if (arena.frozen || part.size() == 0) continue;
    buffer = Tensor(stream, accumulator_of(arena.dtype), {part.size()});
    zero_all_but_products(layout_.parameters, numbers, i, buffer, part.begin, stream);
  }
  for (std::int64_t i = numbers.begin; i < numbers.end; ++i) {
    Parameter& parameter = layout_.parameters[static_cast<std::size_t>(i)];
    if (!parameter.spec.frozen)
      parameter.gradient = buffers[parameter.arena]
                               .view()
                               .slice_rows(parameter.in_part.begin, parameter.in_part.size())
                               .reshaped(parameter.spec.shape);
  }
}

void GradientSums::finish(std::size_t group, const Stream& stream) {
  const Range numbers = layout_.groups[group];
  zero_unwritten(numbers, stream);
  if (observer_)
    for (std::int64_t i = numbers.begin; i < numbers.end; ++i)
      observer_(layout_.parameters[static_cast<std::size_t>(i)]);
  if (ranks_ == nullptr) return;
  if (after_passes_ && keeps_whole())
    waiting_.push_back(group);
  else
    start_sum(group, stream);
}

void GradientSums::start_sum(std::size_t group, const Stream& stream) {
  const Range numbers = layout_.groups[group];
  finish_in_flight(stream);
  InFlight next;
  std::vector<FlatParts> parts;
  if (!keeps_whole()) next.buffers = std::move(of_group_.extract(group).mapped());
  for (std::size_t i = 0; i < layout_.arenas.size(); ++i) {
    const ParameterArena& arena = layout_.arenas[i];
    const Range flat = arena.parts[group].flat;
    if (arena.frozen || flat.size() == 0) continue;
    const TensorView whole =
        keeps_whole() ? arena.gradients.view().slice_rows(flat.begin, flat.size()) : next.buffers[i].view();
    parts.push_back({.whole = whole, .part = sum(layout_.piece(i, group))});
    ensure(first_pass_ || arena.sums.present(), "gradients of a second pass, for which no memory was allocated");
  }
  next.sums = SumOfParts(parts, *ranks_, stream, reduce_dtype_);
  if (!next.sums.reads_buffers()) next.buffers.clear();
  in_flight_ = std::move(next);
  if (keeps_whole()) return;
  for (std::int64_t i = numbers.begin; i < numbers.end; ++i)
    layout_.parameters[static_cast<std::size_t>(i)].gradient = {};
}

void GradientSums::finish_in_flight(const Stream& stream) {
  if (!in_flight_) return;
  in_flight_->sums.finish(!first_pass_, stream);
  in_flight_.reset();
}

void GradientSums::end_pass(const Stream& stream) {
  for (const std::size_t group : std::exchange(waiting_, {})) start_sum(group, stream);
  finish_in_flight(stream);
  first_pass_ = false;
  // The sums are elsewhere, or replaced this rank's part of the whole gradients.
  if (ranks_ != nullptr) zero_due_ = true;
}

void GradientSums::finish_all(const Stream& stream) {
  if (ranks_ != nullptr) return;      // every pass has finished all groups
  if (zero_due_) zero_whole(stream);  // of a rank without a pass
  zero_unwritten({0, std::ssize(layout_.parameters)}, stream);
}

void GradientSums::zero_unwritten(Range parameters, const Stream& stream) const {
  for (std::int64_t i = parameters.begin; i < parameters.end; ++i) {
    const Parameter& parameter = layout_.parameters[static_cast<std::size_t>(i)];
    if (std::exchange(parameter.gradient_unwritten, false))
      stream.zero(parameter.gradient.data, parameter.gradient.bytes());
  }
}

TensorView GradientSums::sum(const ShardPiece& piece) const {
  const ParameterArena& arena = layout_.arenas[piece.arena];
  if (arena.sums.present()) return arena.sums.view().slice_rows(piece.shard.begin, piece.shard.size());
  return arena.gradients.view().slice_rows(piece.flat.begin, piece.flat.size());
}

}  // namespace causeway

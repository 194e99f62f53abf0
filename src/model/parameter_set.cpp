#include "src/model/parameter_set.hpp"

#include "kernels/adamw.hpp"
#include "kernels/core/integer.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace causeway {
namespace {

/// The number of a parameter's random stream: FNV-1a of its name, so that adding a layer does not change the initial
/// values of the other parameters.
std::uint64_t stream_of(const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace

const Parameter& ParameterSet::add(ParameterSpec spec) {
  ensure(arenas_.empty() || !arenas_.front().weights.present(), "parameter {} is added after allocate()", spec.name);
  for (const Parameter& other : parameters_)
    ensure(other.spec.name != spec.name, "two parameters have the name {}", spec.name);
  const DType dtype = spec.wide ? accumulator_of(dtype_) : dtype_;
  auto arena = std::find_if(arenas_.begin(), arenas_.end(), [&](const ParameterArena& a) {
    return a.dtype == dtype && a.decay == spec.decay && a.frozen == spec.frozen;
  });
  if (arena == arenas_.end()) {
    arenas_.push_back({.dtype = dtype, .decay = spec.decay, .frozen = spec.frozen, .weights = {}, .gradients = {}});
    arena = arenas_.end() - 1;
  }
  const Range flat{arena->elements, arena->elements + spec.shape.size()};
  arena->elements = flat.end;
  return parameters_.emplace_back(Parameter{.spec = std::move(spec),
                                            .arena = static_cast<int>(arena - arenas_.begin()),
                                            .flat = flat,
                                            .weight = {},
                                            .gradient = {}});
}

void ParameterSet::allocate(const Stream& stream, int shards, bool with_gradients) {
  shards_ = shards;
  for (ParameterArena& arena : arenas_) {
    const std::int64_t padded = round_up(arena.elements, shards);
    arena.weights = Tensor::zeros(stream, arena.dtype, {padded});
    if (with_gradients && !arena.frozen) arena.gradients = Tensor::zeros(stream, accumulator_of(arena.dtype), {padded});
  }
  for (Parameter& parameter : parameters_) {
    const ParameterArena& arena = arenas_[static_cast<std::size_t>(parameter.arena)];
    const auto part = [&](TensorView whole) {
      return whole.slice_rows(parameter.flat.begin, parameter.flat.size()).reshaped(parameter.spec.shape);
    };
    parameter.weight = part(arena.weights);
    if (arena.gradients.present()) parameter.gradient = part(arena.gradients);
  }
}

void ParameterSet::initialise(std::uint64_t seed, const Stream& stream) {
  for (const Parameter& parameter : parameters_)
    parameter.spec.initial.fill(stream, RandomStream(seed, stream_of(parameter.spec.name)), parameter.weight);
}

void ParameterSet::zero_gradients(const Stream& stream) {
  std::vector<std::int64_t> done(arenas_.size(), 0);  // elements of each arena
  const auto zero_up_to = [&](std::size_t arena, std::int64_t end) {
    const TensorView rest = arenas_[arena].gradients.view().slice_rows(done[arena], end - done[arena]);
    if (rest.size() > 0) stream.zero(rest.data, rest.bytes());
  };
  for (const Parameter& parameter : parameters_) {
    if (!parameter.gradient.present() || !parameter.spec.product) continue;
    const auto arena = static_cast<std::size_t>(parameter.arena);
    zero_up_to(arena, parameter.flat.begin);
    done[arena] = parameter.flat.end;
    parameter.gradient_unwritten = true;
  }
  for (std::size_t i = 0; i < arenas_.size(); ++i)
    if (arenas_[i].gradients.present()) zero_up_to(i, arenas_[i].gradients.view().size());
}

void ParameterSet::begin_gradients(const Stream& stream) {
  if (std::exchange(zero_later_, false)) zero_gradients(stream);
}

void ParameterSet::finish_gradients(const Stream& stream) {
  begin_gradients(stream);  // of a rank without a pass
  for (const Parameter& parameter : parameters_)
    if (std::exchange(parameter.gradient_unwritten, false))
      stream.zero(parameter.gradient.data, parameter.gradient.bytes());
}

void ParameterSet::await_updates(const Stream& stream, std::size_t count) const {
  if (updates_.empty() || count == 0) return;
  auto needed = std::ranges::find_if(updates_, [&](const Update& update) { return update.count >= count; });
  if (needed == updates_.end()) --needed;
  await_adamw(stream, {.calls = needed->call});
  updates_.erase(updates_.begin(), std::next(needed));
}

std::int64_t ParameterSet::count() const {
  std::int64_t total = 0;
  for (const ParameterArena& arena : arenas_)
    if (!arena.frozen) total += arena.elements;
  return total;
}

Range ParameterSet::shard(const ParameterArena& arena, int index) const {
  const std::int64_t each = ceil_div(arena.elements, shards_);
  return {index * each, (index + 1) * each};
}

}  // namespace causeway

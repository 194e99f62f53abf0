#include "src/model/parameters/parameter_set.hpp"

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include "kernels/activation.hpp"
#include "src/model/parameters/fp8_shapes.hpp"

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
  ensure(layout_.arenas.empty() || !layout_.arenas.front().weights.present(), "parameter {} is added after allocate()",
         spec.name);
  for (const Parameter& other : layout_.parameters)
    ensure(other.spec.name != spec.name, "two parameters have the name {}", spec.name);
  const DType dtype = spec.wide ? accumulator_of(dtype_) : dtype_;
  std::vector<ParameterArena>& arenas = layout_.arenas;
  auto arena = std::find_if(arenas.begin(), arenas.end(), [&](const ParameterArena& a) {
    return a.dtype == dtype && a.decay == spec.decay && a.frozen == spec.frozen;
  });
  if (arena == arenas.end()) {
    arenas.push_back({.dtype = dtype,
                      .decay = spec.decay,
                      .frozen = spec.frozen,
                      .parts = {},
                      .weights = {},
                      .gradients = {},
                      .sums = {}});
    arena = arenas.end() - 1;
  }
  arena->parts.resize(layout_.groups.size());
  ParameterArena::Part& part = arena->parts.back();
  const bool fp8 = spec.fp8 != Fp8Level::off && fp8_ >= spec.fp8 && fp8_pays(spec.shape[0], spec.shape[1]);
  const Range in_part{part.elements, part.elements + spec.shape.size()};
  part.elements = in_part.end;
  arena->elements += in_part.size();
  layout_.groups.back().end = std::ssize(layout_.parameters) + 1;
  return layout_.parameters.emplace_back(Parameter{.spec = std::move(spec),
                                                   .arena = static_cast<std::size_t>(arena - arenas.begin()),
                                                   .group = layout_.groups.size() - 1,
                                                   .in_part = in_part,
                                                   .flat = {},
                                                   .weight = {},
                                                   .gradient = {},
                                                   .fp8 = fp8});
}

void ParameterSet::begin_group() {
  const std::int64_t first = std::ssize(layout_.parameters);
  layout_.groups.push_back({first, first});
}

void ParameterSet::allocate(const Stream& stream, int shards, bool with_gradients) {
  layout_.shards = shards;
  make_arenas({.gradients = with_gradients}, stream);
}

void ParameterSet::allocate(const Stream& stream, Communicator& ranks, const ParameterMemory& memory) {
  if (ranks.size() == 1) return allocate(stream, 1, memory.gradients);
  ranks_ = &ranks;
  layout_.shards = ranks.size();
  layout_.rank = ranks.rank();
  make_arenas(memory, stream);
  if (memory.level >= ShardLevel::parameters)
    gathered_.emplace(layout_, ranks, [this](std::size_t group, const Stream& of_pass) {
      await_updates(of_pass, parameters_up_to(group));
    });
}

void ParameterSet::make_arenas(const ParameterMemory& memory, const Stream& stream) {
  layout_.place();
  const bool shards_gradients = memory.level >= ShardLevel::gradients,
             shards_weights = memory.level >= ShardLevel::parameters;
  for (ParameterArena& arena : layout_.arenas) {
    const std::int64_t whole = arena.padded(), shard = whole / layout_.shards;
    const DType wide = accumulator_of(arena.dtype);
    arena.weights = Tensor::zeros(stream, arena.dtype, {shards_weights ? shard : whole});
    if (!memory.gradients || arena.frozen) continue;
    if (!shards_gradients) arena.gradients = Tensor::zeros(stream, wide, {whole});
    if (shards_gradients || memory.several_passes) arena.sums = Tensor::zeros(stream, wide, {shard});
  }
  for (Parameter& parameter : layout_.parameters) {
    const ParameterArena& arena = layout_.arenas[parameter.arena];
    const auto part = [&](TensorView all) {
      return all.slice_rows(parameter.flat.begin, parameter.flat.size()).reshaped(parameter.spec.shape);
    };
    parameter.weight = shards_weights ? view_of(nullptr, arena.dtype, parameter.spec.shape) : part(arena.weights);
    if (arena.gradients.present()) parameter.gradient = part(arena.gradients);
  }
  gradients_.emplace(layout_, ranks_, memory.gradient_reduce_dtype);
}

void ParameterSet::initialise(std::uint64_t seed, const Stream& stream) {
  for (const Parameter& parameter : layout_.parameters) {
    const RandomStream random(seed, stream_of(parameter.spec.name));
    const Part part = held(parameter);
    if (part.elements.size() == parameter.spec.shape.size()) {
      parameter.spec.initial.fill(stream, random, part.weights.reshaped(parameter.spec.shape));
    } else if (part.elements.size() > 0) {
      const Tensor whole(stream, part.weights.dtype, parameter.spec.shape);
      parameter.spec.initial.fill(stream, random, whole);
      const TensorView from =
          whole.view().reshaped({parameter.spec.shape.size()}).slice_rows(part.elements.begin, part.elements.size());
      stream.copy(part.weights.data, from.data, from.bytes());
    }
  }
}

void ParameterSet::begin_pass(PassPlan plan, const Stream& stream) {
  if (gathered_) gathered_->begin_pass(std::move(plan), stream);
}

void ParameterSet::use(const PassStep& step, const Stream& stream) {
  if (gathered_) gathered_->use(step, stream);
}

void ParameterSet::begin_gradients(const PassStep& groups, const Stream& stream) {
  for (const std::size_t group : groups) gradients_->begin(group, stream);
}

void ParameterSet::end_pass() {
  if (gathered_) gathered_->end_pass();
}

void ParameterSet::await_updates(const Stream& stream, std::size_t count) const {
  if (updates_.empty() || count == 0) return;
  auto needed = std::ranges::find_if(updates_, [&](const Update& update) { return update.count >= count; });
  if (needed == updates_.end()) --needed;
  needed->await(stream);
  updates_.erase(updates_.begin(), std::next(needed));
}

std::int64_t ParameterSet::count() const {
  std::int64_t total = 0;
  for (const ParameterArena& arena : layout_.arenas)
    if (!arena.frozen) total += arena.elements;
  return total;
}

TensorView ParameterSet::weights_at(const ParameterArena& arena, Range flat, Range shard) const {
  const Range there = holds_whole(arena) ? flat : shard;
  return arena.weights.view().slice_rows(there.begin, there.size());
}

std::vector<ShardPiece> ParameterSet::pieces_of(std::size_t group) const {
  std::vector<ShardPiece> pieces;
  for (std::size_t arena = 0; arena < layout_.arenas.size(); ++arena)
    if (layout_.arenas[arena].parts[group].flat.size() > 0) pieces.push_back(layout_.piece(arena, group));
  return pieces;
}

TensorView ParameterSet::weights_of(const ShardPiece& piece) const {
  return weights_at(layout_.arenas[piece.arena], piece.flat, piece.shard);
}

Pending ParameterSet::start_gather_of_group(std::size_t group, const Stream& stream) {
  std::vector<FlatParts> buffers;
  for (std::size_t i = 0; i < layout_.arenas.size(); ++i) {
    const ParameterArena& arena = layout_.arenas[i];
    const Range part = arena.parts[group].flat;
    if (arena.frozen || part.size() == 0) continue;
    buffers.push_back({.whole = arena.weights.view().slice_rows(part.begin, part.size()),
                       .part = weights_of(layout_.piece(i, group))});
  }
  return start_gather_of_parts(buffers, *ranks_, stream);
}

void ParameterSet::publish_weights(const Stream& stream, bool beside_next_pass) {
  if (ranks_ == nullptr || gathered_) return;
  // All start now: the bytes count for this step, and no rank has to come back to start one.
  const auto in_flight = std::make_shared<std::deque<Pending>>();
  for (std::size_t group = 0; group < groups(); ++group) in_flight->push_back(start_gather_of_group(group, stream));
  for (std::size_t group = 0; group < groups(); ++group)
    note_update(parameters_up_to(group), [in_flight, left = groups() - 1 - group](const Stream&) {
      for (; in_flight->size() > left; in_flight->pop_front()) in_flight->front().wait();
    });
  if (!beside_next_pass) await_updates(stream);
}

ParameterSet::Part ParameterSet::owned(const Parameter& parameter) const {
  const ShardPiece piece = layout_.piece(parameter.arena, parameter.group);
  const std::int64_t begin = std::clamp(parameter.flat.begin, piece.flat.begin, piece.flat.end),
                     end = std::clamp(parameter.flat.end, begin, piece.flat.end);
  const std::int64_t first = begin - piece.flat.begin + piece.shard.begin;
  const Range flat{begin, end}, shard{first, first + flat.size()};
  // An empty part can be before the parameter's first element, or after its last one.
  const std::int64_t element = std::clamp(begin - parameter.flat.begin, std::int64_t{0}, parameter.flat.size());
  return {.elements = {element, element + flat.size()},
          .shard = shard,
          .weights = weights_at(layout_.arenas[parameter.arena], flat, shard)};
}

ParameterSet::Part ParameterSet::held(const Parameter& parameter) const {
  const ParameterArena& arena = layout_.arenas[parameter.arena];
  if (!holds_whole(arena)) return owned(parameter);
  return {.elements = {0, parameter.flat.size()},
          .shard = {},
          .weights = arena.weights.view().slice_rows(parameter.flat.begin, parameter.flat.size())};
}

}  // namespace causeway

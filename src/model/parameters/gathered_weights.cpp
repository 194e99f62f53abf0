#include "src/model/parameters/gathered_weights.hpp"

#include <algorithm>

#include "parallel/exchange/flat_parts.hpp"

namespace causeway {
namespace {

bool has(const PassStep& step, std::size_t group) { return std::ranges::find(step, group) != step.end(); }

}  // namespace

void GatheredWeights::begin_pass(PassPlan plan, const Stream& stream) {
  end_pass();
  plan_ = std::move(plan);
  at_ = 0;
  for (const std::size_t group : plan_.steps.front()) start(group, stream);
}

void GatheredWeights::use(const PassStep& step, const Stream& stream) {
  ensure(at_ < plan_.steps.size() && plan_.steps[at_] == step, "step {} of a pass uses other weights than planned",
         at_);
  for (auto held = held_.begin(); held != held_.end();) {
    const std::size_t group = (held++)->first;
    if (!needed(group)) drop(group);
  }
  for (const std::size_t group : step) {
    start(group, stream);
    held_[group].pending.wait();
    bind(group);
  }
  if (++at_ < plan_.steps.size())
    for (const std::size_t group : plan_.steps[at_]) start(group, stream);
}

void GatheredWeights::end_pass() {
  while (!held_.empty()) drop(held_.begin()->first);
  plan_ = {};
}

/// By the step that begins, by the one after it, or, if it is kept, by any later one.
bool GatheredWeights::needed(std::size_t group) const {
  const std::size_t end = plan_.keeps(group) ? plan_.steps.size() : std::min(at_ + 2, plan_.steps.size());
  for (std::size_t i = at_; i < end; ++i)
    if (has(plan_.steps[i], group)) return true;
  return false;
}

/// Starts to gather a group, unless it is held.
void GatheredWeights::start(std::size_t group, const Stream& stream) {
  if (held_.contains(group)) return;
  if (before_gathering_) before_gathering_(group, stream);
  Group gathered;
  std::vector<FlatParts> buffers;
  for (std::size_t i = 0; i < layout_.arenas.size(); ++i) {
    const ParameterArena& arena = layout_.arenas[i];
    const std::int64_t padded = arena.parts[group].flat.size();
    gathered.buffers.push_back(padded > 0 ? Tensor(stream, arena.dtype, {padded}) : Tensor());
    if (padded == 0) continue;
    const Range shard = layout_.piece(i, group).shard;
    buffers.push_back(
        {.whole = gathered.buffers.back(), .part = arena.weights.view().slice_rows(shard.begin, shard.size())});
  }
  gathered.pending = start_gather_of_parts(buffers, ranks_, stream);
  held_.emplace(group, std::move(gathered));
}

void GatheredWeights::bind(std::size_t group) {
  const std::vector<Tensor>& buffers = held_.at(group).buffers;
  const Range numbers = layout_.groups[group];
  for (std::int64_t i = numbers.begin; i < numbers.end; ++i) {
    Parameter& parameter = layout_.parameters[static_cast<std::size_t>(i)];
    parameter.weight = buffers[parameter.arena]
                           .view()
                           .slice_rows(parameter.in_part.begin, parameter.in_part.size())
                           .reshaped(parameter.spec.shape);
  }
}

void GatheredWeights::drop(std::size_t group) {
  const Range numbers = layout_.groups[group];
  for (std::int64_t i = numbers.begin; i < numbers.end; ++i)
    layout_.parameters[static_cast<std::size_t>(i)].weight.data = nullptr;
  held_.erase(group);
}

}  // namespace causeway

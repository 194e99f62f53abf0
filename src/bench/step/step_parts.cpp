#include "src/bench/step/step_parts.hpp"

#include <algorithm>

namespace causeway {
namespace {

/// A range that gives its name to what it contains.
std::string_view phase_of(const TraceSpan& span) {
  for (const std::string_view name : {"forward", "head", "backward", "optimizer"})
    if (span.category == "range" && span.name == name) return name;
  return {};
}

/// The part that a moment belongs to, whose innermost open span is the last one.
std::string part_of(const std::vector<const TraceSpan*>& open) {
  const TraceSpan& innermost = *open.back();
  std::string_view phase;
  for (const TraceSpan* span : open)
    if (const std::string_view found = phase_of(*span); !found.empty()) phase = found;
  const auto with_phase = [&](std::string_view name) {
    return phase.empty() ? std::string(name) : std::string(name) + ' ' + std::string(phase);
  };
  if (innermost.category == "exchange") return with_phase("exchange");
  if (innermost.category != "operator") return "rest";
  if (phase == "optimizer") return "optimizer";
  for (const std::string_view direction : {"forward", "backward"})
    if (innermost.name.ends_with(direction) && innermost.name.size() > direction.size() + 1)
      return innermost.name.substr(0, innermost.name.size() - direction.size() - 1) + ' ' + std::string(direction);
  return with_phase(innermost.name);
}

}  // namespace

StepParts parts_of(const std::vector<TraceSpan>& spans, TraceLane lane, std::string_view ignored) {
  std::vector<const TraceSpan*> ordered;
  for (const TraceSpan& span : spans)
    if (span.lane == lane) ordered.push_back(&span);
  std::ranges::stable_sort(ordered, [](const TraceSpan* a, const TraceSpan* b) {
    return a->begin_s != b->begin_s ? a->begin_s < b->begin_s : a->end_s > b->end_s;
  });
  StepParts parts;
  std::vector<const TraceSpan*> open;
  double at = 0;  // what is before belongs to parts already
  const auto advance_to = [&](double time) {
    while (!open.empty() && at < time) {
      const double end = std::min(time, open.back()->end_s);
      if (end > at && (ignored.empty() || open.back()->name != ignored)) parts[part_of(open)] += end - at;
      at = std::max(at, end);
      if (open.back()->end_s <= at) open.pop_back();
    }
    at = time;
    while (!open.empty() && open.back()->end_s <= at) open.pop_back();
  };
  double last = 0;
  for (const TraceSpan* span : ordered) {
    advance_to(span->begin_s);
    open.push_back(span);
    last = std::max(last, span->end_s);
  }
  advance_to(last);
  return parts;
}

}  // namespace causeway

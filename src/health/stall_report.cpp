#include "src/health/stall_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>

namespace causeway {
namespace {

double age(const RankLine& line, double now) { return std::max(0.0, now - line.heard); }

/// A line is written every second; the file system may show it later.
bool silent(const RankLine& line, double now, double limit_s) {
  return age(line, now) > std::clamp(limit_s / 2, 2.0, 10.0);
}

std::string place_text(const RankProgress::View& view) {
  std::string text = fmt::format("step {}, {}", view.place.step, name_of(view.place.phase));
  if (view.place.layer >= 0) text += fmt::format(" of layer {}", view.place.layer);
  return text;
}

std::string rank_text(const RankLine& line, double now, double limit_s) {
  const RankProgress::View& view = line.view;
  std::string text = fmt::format("rank {} ({}): ", line.rank, line.host);
  if (silent(line, now, limit_s))
    text += fmt::format("not heard for {:.0f} s, stopped or gone; was at {}", age(line, now), place_text(view));
  else
    text += fmt::format("{}, for {:.1f} s", place_text(view), view.still_s + age(line, now));
  if (writes(view))
    text += fmt::format("; writing its checkpoint: {}, for {:.1f} s", name_of(view.writing),
                        view.writing_still_s + age(line, now));
  return text;
}

}  // namespace

bool writes(const RankProgress::View& view) {
  using enum CheckpointStage;
  return view.writing != idle && view.writing != copy && view.writing != hashed;
}

double still_s(const RankProgress::View& view) { return writes(view) ? view.writing_still_s : view.still_s; }

double still_s(const std::vector<std::optional<RankLine>>& lines, double now) {
  double least = std::numeric_limits<double>::infinity();
  for (const std::optional<RankLine>& line : lines) {
    if (!line) continue;
    const double training = line->view.still_s, writing = writes(line->view) ? line->view.writing_still_s : training;
    least = std::min(least, std::min(training, writing) + age(*line, now));
  }
  return least;
}

Stall describe_stall(const std::vector<std::optional<RankLine>>& lines, double now, double limit_s) {
  Stall stall;
  const RankLine* cause = nullptr;
  const auto stands = [&](const RankLine& line) { return still_s(line.view) + age(line, now); };
  for (std::size_t rank = 0; rank < lines.size(); ++rank) {
    const std::optional<RankLine>& line = lines[rank];
    stall.ranks.push_back(line ? rank_text(*line, now, limit_s) : fmt::format("rank {}: not heard yet", rank));
    if (!line) continue;
    // Silence says most; then a checkpoint that is not being written any more; then who is behind the others.
    const auto weight = [&](const RankLine& any) {
      const Place& place = any.view.place;
      return std::tuple(silent(any, now, limit_s), writes(any.view), -place.step, -place.moves, stands(any));
    };
    if (cause == nullptr || weight(*line) > weight(*cause)) cause = &*line;
  }
  stall.reason = fmt::format("no progress for {:.0f} s", limit_s);
  if (cause == nullptr) return stall;
  const std::string who = fmt::format("rank {} ({})", cause->rank, cause->host);
  const auto as_far = [&](const std::optional<RankLine>& line) {
    return line && line->view.place.step == cause->view.place.step && line->view.place.moves == cause->view.place.moves;
  };
  if (silent(*cause, now, limit_s))
    stall.reason += fmt::format("; {} has been stopped, or is gone", who);
  else if (writes(cause->view))
    stall.reason += fmt::format("; {} stands in writing its checkpoint: {}", who, name_of(cause->view.writing));
  else if (lines.size() > 1 && std::ranges::all_of(lines, as_far))
    stall.reason += fmt::format("; all ranks stand at {}, {} for longest", place_text(cause->view), who);
  else
    stall.reason += fmt::format("; {} is furthest behind, at {}", who, place_text(cause->view));
  return stall;
}

}  // namespace causeway

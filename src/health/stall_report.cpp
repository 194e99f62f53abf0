#include "src/health/stall_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <tuple>

namespace causeway {
namespace {

double age(const RankLine& line, double now) { return std::max(0.0, now - line.written_at); }

double beyond(double idle, bool in_system, double extra_s) { return in_system ? std::max(0.0, idle - extra_s) : idle; }

/// A rank writes its line every second; a shared file system may show it later.
bool is_silent(const RankLine& line, double now, double limit_s) {
  return age(line, now) > std::clamp(limit_s / 2, 2.0, 10.0);
}

std::string position_text(const RankPosition& position) {
  std::string text = fmt::format("step {}, {}", position.step, name_of(position.phase));
  if (position.layer >= 0) text += fmt::format(" of layer {}", position.layer);
  return text;
}

std::string rank_text(const RankLine& line, double now, double limit_s) {
  const RankProgress::Snapshot& progress = line.progress;
  const std::string position = position_text(progress.position);
  std::string text = fmt::format("rank {} ({}): ", line.rank, line.host);
  if (is_silent(line, now, limit_s))
    text += fmt::format("silent for {:.0f} s, stopped or gone; last at {}", age(line, now), position);
  else
    text += fmt::format("{}{}, for {:.1f} s", position, progress.in_system ? ", inside the system" : "",
                        progress.idle_s + age(line, now));
  if (is_writing(progress))
    text +=
        fmt::format("; writing its checkpoint: {}{}, for {:.1f} s", name_of(progress.writing),
                    progress.writing_in_system ? ", inside the system" : "", progress.writing_idle_s + age(line, now));
  return text;
}

/// The rank that most likely keeps the others waiting: first a silent one, then one whose checkpoint is no longer
/// written, then one inside the system, then the one furthest behind, then the one idle longest. Null without lines.
const RankLine* likely_cause(const std::vector<std::optional<RankLine>>& lines, double now, double limit_s) {
  const auto suspicion = [&](const RankLine& line) {
    const RankPosition& position = line.progress.position;
    return std::tuple(is_silent(line, now, limit_s), is_writing(line.progress), line.progress.in_system, -position.step,
                      -position.heartbeats, idle_s(line.progress) + age(line, now));
  };
  const RankLine* cause = nullptr;
  for (const std::optional<RankLine>& line : lines)
    if (line && (cause == nullptr || suspicion(*line) > suspicion(*cause))) cause = &*line;
  return cause;
}

}  // namespace

bool is_writing(const RankProgress::Snapshot& progress) {
  using enum CheckpointStage;
  return progress.writing != idle && progress.writing != copy && progress.writing != hashed;
}

double idle_s(const RankProgress::Snapshot& progress, double extra_s) {
  return is_writing(progress) ? beyond(progress.writing_idle_s, progress.writing_in_system, extra_s)
                              : beyond(progress.idle_s, progress.in_system, extra_s);
}

double idle_s(const std::vector<std::optional<RankLine>>& lines, double now, double extra_s) {
  double least = std::numeric_limits<double>::infinity();
  for (const std::optional<RankLine>& line : lines) {
    if (!line) continue;
    const RankProgress::Snapshot& progress = line->progress;
    // After its last line nothing is known of a rank, not even that it is still inside the system: that time counts.
    const double since = age(*line, now);
    least = std::min(least, beyond(progress.idle_s, progress.in_system, extra_s) + since);
    if (is_writing(progress))
      least = std::min(least, beyond(progress.writing_idle_s, progress.writing_in_system, extra_s) + since);
  }
  return least;
}

bool has_lost_rank(const std::vector<std::optional<RankLine>>& lines, double now, double limit_s) {
  constexpr double several_lines_s = 5;
  return std::ranges::any_of(lines, [&](const std::optional<RankLine>& line) {
    return line && age(*line, now) > std::max(limit_s, several_lines_s);
  });
}

StallReport describe_stall(const std::vector<std::optional<RankLine>>& lines, double now, double limit_s,
                           double extra_s) {
  constexpr const char* inside = ", inside the system (fsync, write, rename or removal)";
  StallReport stall;
  for (std::size_t rank = 0; rank < lines.size(); ++rank)
    stall.ranks.push_back(lines[rank] ? rank_text(*lines[rank], now, limit_s)
                                      : fmt::format("rank {}: has not reported yet", rank));
  const RankLine* const cause = likely_cause(lines, now, limit_s);
  // After the last line of a silent rank all time counts, also if it was inside the system then.
  const bool in_system = cause != nullptr && !is_silent(*cause, now, limit_s) &&
                         (is_writing(cause->progress) ? cause->progress.writing_in_system : cause->progress.in_system);
  stall.reason = fmt::format("no progress for {:.0f} s", limit_s + (in_system ? extra_s : 0));
  if (cause == nullptr) return stall;
  const std::string who = fmt::format("rank {} ({})", cause->rank, cause->host);
  const RankPosition& position = cause->progress.position;
  const auto as_far = [&](const std::optional<RankLine>& line) {
    return line && line->progress.position.step == position.step &&
           line->progress.position.heartbeats == position.heartbeats;
  };
  if (is_silent(*cause, now, limit_s))
    stall.reason += fmt::format("; {} has been stopped, or is gone", who);
  else if (is_writing(cause->progress))
    stall.reason += fmt::format("; {} is stuck writing its checkpoint: {}{}", who, name_of(cause->progress.writing),
                                in_system ? inside : "");
  else if (in_system)
    stall.reason += fmt::format("; {} is stuck{}, at {}", who, inside, position_text(position));
  else if (lines.size() > 1 && std::ranges::all_of(lines, as_far))
    stall.reason += fmt::format("; all ranks are at {}, {} for the longest time", position_text(position), who);
  else
    stall.reason += fmt::format("; {} is furthest behind, at {}", who, position_text(position));
  return stall;
}

}  // namespace causeway

#include "src/watch/rank_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/core/integer.hpp"
#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"
#include "src/watch/curve.hpp"

namespace causeway {
namespace {

constexpr double slow_call_s = 2;
constexpr int wide = 100;  // from this width on, tokens and memory are shown too

/// `text`, cut or padded to exactly that many columns.
std::string cell(std::string_view text, int columns, const Look& look) {
  std::string shown = render({{std::string(text)}}, {.width = columns, .unicode = look.unicode});
  shown.append(static_cast<std::size_t>(columns - columns_of(shown)), ' ');
  return shown;
}

/// How long the rank has not written its line. A rank that is done is not silent.
double silent_s(const RankLine& rank, double now) {
  return rank.progress.position.phase == Phase::done ? 0 : now - rank.written_at;
}
double compute_s(const RankLine& rank) { return rank.progress.figures.compute_s; }
double step_s(const RankLine& rank) { return rank.progress.figures.compute_s + rank.progress.figures.comm_exposed_s; }

/// Phase and layer: "forward 3"; of a rank inside a long system call: "index I/O 12 s".
std::string position_text(const RankLine& rank) {
  const RankProgress::Snapshot& progress = rank.progress;
  const RankPosition& position = progress.position;
  // Only a system call that takes long is worth a word.
  if (progress.writing_in_system && progress.writing_idle_s > slow_call_s)
    return fmt::format("{} I/O {:.0f} s", name_of(progress.writing), progress.writing_idle_s);
  if (progress.in_system && progress.idle_s > slow_call_s)
    return fmt::format("{} I/O {:.0f} s", name_of(position.phase), progress.idle_s);
  std::string text(name_of(position.phase));
  if (position.layer >= 0) text += fmt::format(" {}", position.layer);
  if (rank.progress.writing != CheckpointStage::idle) text += fmt::format(", {}", name_of(rank.progress.writing));
  return text;
}

Line heading(const Look& look) {
  std::string text = fmt::format("{:>5} {:<12} {:>8} {:<14} {:<18} {:>8}", "rank", "host", "step", "at",
                                 "computing, waiting", "a step");
  if (look.width >= wide) text += fmt::format(" {:>8} {:>10}", "tokens", "memory");
  return {{std::move(text), Style::dim}};
}

Line row(const RankLine& rank, double now, double slowest, bool most, const Look& look) {
  constexpr int bar_columns = 18;
  const auto columns = [&](double seconds) {
    return slowest > 0 ? static_cast<int>(seconds / slowest * bar_columns + 0.5) : 0;
  };
  const int computing = std::clamp(columns(compute_s(rank)), 0, bar_columns);
  const int waiting = std::clamp(columns(step_s(rank)) - computing, 0, bar_columns - computing);
  const auto repeated = [](int count, const char* glyph) {
    std::string text;
    for (int i = 0; i < count; ++i) text += glyph;
    return text;
  };
  const bool silent = silent_s(rank, now) > silent_after_s;
  Line line{{fmt::format("{:>5} {} {:>8} {} ", rank.rank, cell(rank.host, 12, look), rank.progress.position.step,
                         cell(position_text(rank), 14, look)),
             silent ? Style::bad : Style::plain},
            {repeated(computing, look.unicode ? "█" : "#"), most ? Style::warning : Style::accent},
            {repeated(waiting, look.unicode ? "░" : "-"), Style::dim},
            {repeated(bar_columns - computing - waiting, " ")}};
  std::string text = fmt::format(" {:>8}", short_time(step_s(rank)));
  if (look.width >= wide)
    text += fmt::format(" {:>8} {:>10}", shortened(static_cast<double>(rank.progress.figures.tokens)),
                        binary_bytes(static_cast<double>(rank.progress.figures.memory_bytes)));
  line.push_back({std::move(text)});
  return line;
}

/// All ranks in rank order, in one line: each column shows the slowest of several neighbouring ranks.
Line strip(std::span<const RankLine> ranks, double slowest, const Look& look) {
  const std::size_t columns = static_cast<std::size_t>(std::max(look.width - Row::label_columns, 1));
  const std::size_t together = ceil_div(ranks.size(), columns);
  std::vector<double> values;
  for (std::size_t begin = 0; begin < ranks.size(); begin += together) {
    double most = 0;
    for (const RankLine& rank : ranks.subspan(begin, std::min(together, ranks.size() - begin)))
      most = std::max(most, compute_s(rank));
    values.push_back(most);
  }
  return {{fmt::format("{:<{}}", "ranks", Row::label_columns), Style::dim},
          {draw_strip(values, slowest, look.unicode), Style::accent}};
}

}  // namespace

Section rank_rows(std::span<const RankLine> ranks, double now, const Look& look, int room) {
  Section section{.importance = 10};
  if (ranks.empty() || room < 2) return section;
  const auto most = std::ranges::max_element(ranks, {}, compute_s);
  const double slowest = step_s(*std::ranges::max_element(ranks, {}, step_s));
  const bool all = std::ssize(ranks) + 1 <= room;
  if (all) {
    section.lines.push_back(heading(look));
    for (const RankLine& rank : ranks)
      section.lines.push_back(row(rank, now, slowest, ranks.size() > 1 && &rank == &*most, look));
    return section;
  }
  constexpr int most_named = 4;
  section.lines.push_back(strip(ranks, compute_s(*most), look));
  if (room < 3) return section;
  section.lines.push_back(heading(look));
  std::vector<RankLine> by_time(ranks.begin(), ranks.end());
  const auto named = std::min<std::ptrdiff_t>({std::ssize(by_time), room - 2, most_named});
  std::partial_sort(by_time.begin(), by_time.begin() + named, by_time.end(), [](const RankLine& a, const RankLine& b) {
    return std::pair(-compute_s(a), a.rank) < std::pair(-compute_s(b), b.rank);
  });
  for (const RankLine& rank : std::span(by_time).first(static_cast<std::size_t>(named)))
    section.lines.push_back(row(rank, now, slowest, rank.rank == most->rank, look));
  return section;
}

Section silent_ranks(std::span<const RankLine> ranks, double now, const Look& look) {
  constexpr int most_named = 8;
  Row row("silent", look);
  int silent = 0;
  for (const RankLine& rank : ranks) {
    if (silent_s(rank, now) <= silent_after_s) continue;
    if (++silent <= most_named)
      row.add(fmt::format("rank {} on {} for {}, was at {} of step {}", rank.rank, rank.host,
                          duration(silent_s(rank, now)), position_text(rank), rank.progress.position.step),
              Style::bad);
  }
  if (silent > most_named) row.add(fmt::format("and {} more", silent - most_named), Style::bad);
  return row.section(1);
}

}  // namespace causeway

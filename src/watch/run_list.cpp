#include "src/watch/run_list.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "kernels/core/error.hpp"
#include "src/cli/exit_codes.hpp"
#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"
#include "src/watch/rank_rows.hpp"

namespace causeway {
namespace {

namespace fs = std::filesystem;

/// "running", "finished", "stopped" or "failed", and why.
struct State {
  std::string word, reason;
  Style style = Style::plain;
};

/// The time of the last file that the run wrote, in seconds since 1970.
std::optional<double> last_sign(const RunState& run) {
  std::optional<double> last = run.metrics_modified;
  const auto consider = [&](double time) {
    if (time > 0 && (!last || time > *last)) last = time;
  };
  if (!run.attempts.empty()) consider(run.attempts.back().started);
  for (const RankLine& rank : run.ranks) consider(rank.written_at);
  return last;
}

State state_of(const RunState& run, double now) {
  if (run.end) {
    if (!run.end->code) return {"failed", "its exit.json has no exit code", Style::bad};
    if (*run.end->code == static_cast<int>(ExitCode::ok)) return {"finished", "", Style::good};
    if (*run.end->code == static_cast<int>(ExitCode::requeue)) return {"stopped", run.end->reason, Style::warning};
    return {"failed", fmt::format("{}: {}", *run.end->code, run.end->reason), Style::bad};
  }
  const std::optional<double> last = last_sign(run);
  if (!last) return {"unknown", "it has no metrics and no ranks.txt", Style::dim};
  const History& history = run.history;
  const double usual = history.steps > 0 ? history.step_s / static_cast<double>(history.steps) : 0;
  if (now - *last <= std::max(silent_after_s, 10 * usual)) return {"running", "", Style::good};
  return {"failed", "no changes any more: killed, or host gone", Style::bad};
}

std::string step_text(const RunState& run) {
  if (!run.history.last) return "-";
  const std::string step = grouped(run.history.last->step);
  return run.setup.steps ? fmt::format("{} of {}", step, grouped(*run.setup.steps)) : step;
}

std::string loss_text(const std::optional<double>& loss, const Look& look) {
  if (!loss) return look.unicode ? "–" : "-";
  return std::abs(*loss) < 1e5 ? fmt::format("{:.4f}", *loss) : fmt::format("{:.3e}", *loss);
}

/// A run's cells.
struct Cells {
  std::string name;
  State state;
  std::string step, loss, held_out, when;
};

Cells cells_of(const ListedRun& run, double now, const Look& look) {
  // In a small window long names leave room for the other columns.
  constexpr int other_columns = 50;
  const auto longest_name = static_cast<std::size_t>(std::clamp(look.width - other_columns, 12, 40));
  constexpr std::size_t longest_reason = 200;
  const History& history = run.state.history;
  Cells cells{.name = printable(run.name.substr(0, longest_name), look.unicode),
              .state = state_of(run.state, now),
              .step = step_text(run.state),
              .loss = loss_text(history.last ? history.last->loss : std::nullopt, look),
              .held_out = loss_text(history.last_evaluation ? history.last_evaluation->loss : std::nullopt, look),
              .when = "-"};
  if (run.name.size() > longest_name) cells.name += look.unicode ? "…" : "...";
  cells.state.reason = printable(cells.state.reason.substr(0, longest_reason), look.unicode);
  if (const std::optional<double> last = last_sign(run.state))
    cells.when = fmt::format("{} ago", duration(std::max(0.0, now - *last)));
  return cells;
}

std::string padded(const std::string& text, int columns) {
  return text + std::string(static_cast<std::size_t>(std::max(0, columns - columns_of(text))), ' ');
}

std::string title_of(const std::string& folder, const std::vector<Cells>& all, const Look& look) {
  std::map<std::string, int> counts;
  for (const Cells& cells : all) ++counts[cells.state.word];
  std::string text =
      fmt::format("{}: {} run{}", printable(folder, look.unicode), all.size(), all.size() == 1 ? "" : "s");
  const char* separator = " (";
  for (const char* word : {"running", "finished", "stopped", "failed", "unknown"})
    if (counts[word] > 0) {
      text += fmt::format("{}{} {}", separator, counts[word], word);
      separator = ", ";
    }
  return text + (all.empty() ? "" : ")");
}

}  // namespace

bool is_run(const std::string& folder) {
  std::error_code ignored;
  for (const char* file : {"metrics.jsonl", "attempts.jsonl", "environment.json", "exit.json", "ranks.txt"})
    if (fs::is_regular_file(fs::path(folder) / file, ignored)) return true;
  try {
    return fs::is_directory(folder, ignored) && !published_steps(folder).empty();
  } catch (const Error&) {  // a folder that cannot be read is not known to be a run
    return false;
  }
}

std::vector<std::string> runs_in(const std::string& folder) {
  std::vector<std::string> names;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      std::error_code ignored;
      if (entry.is_directory(ignored) && is_run(entry.path().string()))
        names.push_back(entry.path().filename().string());
    }
  } catch (const fs::filesystem_error& error) {
    fail(ExitCode::io, "{}: cannot list the folder: {}", folder, error.code().message());
  }
  std::ranges::sort(names, NaturalLess());
  return names;
}

std::vector<std::string> require_runs_in(const std::string& folder) {
  std::vector<std::string> names = runs_in(folder);
  require(!names.empty(), "{}: neither a run nor a checkpoint, and no folder in it is a run", folder);
  return names;
}

std::vector<ListedRun> RunListReader::poll(double seconds) {
  const std::vector<std::string> names = runs_in(folder_);
  std::erase_if(readers_,
                [&](const auto& reader) { return !std::ranges::binary_search(names, reader.first, NaturalLess()); });
  std::vector<ListedRun> runs;
  for (const std::string& name : names) {
    auto found = readers_.find(name);
    if (found == readers_.end()) found = readers_.emplace(name, RunReader((fs::path(folder_) / name).string())).first;
    runs.push_back({name, found->second.poll(seconds / static_cast<double>(names.size()))});
  }
  return runs;
}

std::vector<std::string> build_run_list(const std::string& folder, std::span<const ListedRun> runs, double now,
                                        const Look& look) {
  std::vector<Cells> rows;
  for (const ListedRun& run : runs) rows.push_back(cells_of(run, now, look));
  std::vector<std::string> lines = {render({{title_of(folder, rows, look), Style::bold}}, look)};

  // Title, heading, and the line that counts those that are left out.
  const auto room = static_cast<std::size_t>(std::max(0, look.height - 2));
  std::vector<std::size_t> shown(rows.size());
  for (std::size_t i = 0; i < shown.size(); ++i) shown[i] = i;
  std::size_t left_out = 0;
  if (shown.size() > room) {
    std::ranges::stable_sort(shown, std::greater(),
                             [&](std::size_t i) { return last_sign(runs[i].state).value_or(0); });
    left_out = shown.size() - (room > 0 ? room - 1 : 0);
    shown.resize(shown.size() - left_out);
    std::ranges::sort(shown);
  }

  const auto widest = [&](std::string_view heading, auto text) {
    int columns = columns_of(heading);
    for (const std::size_t i : shown) columns = std::max(columns, columns_of(text(rows[i])));
    return columns;
  };
  const int name = widest("run", [](const Cells&row) { return row.name; }),
            step = widest("step", [](const Cells&row) { return row.step; }),
            when = widest("last change", [](const Cells&row) { return row.when; });
  const auto line = [&](const Cells& row, Style style) {
    const auto right = [](const std::string& text, int columns) {
      return std::string(static_cast<std::size_t>(std::max(0, columns - columns_of(text))), ' ') + text;
    };
    return render({{padded(row.name, name) + "  "},
                   {padded(row.state.word, 8), style},
                   {fmt::format("  {}  {}  {}  {}", right(row.step, step), right(row.loss, 7), right(row.held_out, 8),
                                padded(row.when, when))},
                   {row.state.reason.empty() ? "" : "  " + row.state.reason, Style::dim}},
                  look);
  };
  lines.push_back(line({.name = "run",
                        .state = {.word = "state", .reason = ""},
                        .step = "step",
                        .loss = "loss",
                        .held_out = "held-out",
                        .when = "last change"},
                       Style::plain));
  for (const std::size_t i : shown) lines.push_back(line(rows[i], rows[i].state.style));
  if (left_out > 0)
    lines.push_back(render({{fmt::format("and {} more, which changed earlier", left_out), Style::dim}}, look));
  lines.resize(std::min(lines.size(), static_cast<std::size_t>(std::max(1, look.height))));
  return lines;
}

}  // namespace causeway

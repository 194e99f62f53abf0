#include "src/inspect/run_summary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

#include "io/checkpoint/checkpoint_folders.hpp"
#include "src/cli/exit_codes.hpp"
#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"
#include "src/watch/run_reader.hpp"

namespace causeway {
namespace {

constexpr double most_reading_s = 60;

/// Text from a file, shortened and without characters that could control the terminal.
std::string quoted(const std::string& text) {
  constexpr std::size_t longest = 300;
  return one_line(text, longest);
}

std::string ending(const std::optional<std::int64_t>& code, const std::string& reason) {
  if (!code) return "ended; its exit.json has no exit code";
  const auto row = exit_code_row(*code);
  std::string text = row && *code == 0 ? "done" : fmt::format("ended with {}", *code);
  if (*code != 0 && !reason.empty()) text += ": " + quoted(reason);
  return text;
}

std::string attempt_line(const Attempt& attempt, bool last, bool ended) {
  std::string text = fmt::format("    {:>4}  {}  ", attempt.number, quoted(attempt.time));
  text += attempt.resumed_step > 0 ? fmt::format("from step {}", grouped(attempt.resumed_step))
                                   : std::string("from the start");
  text += fmt::format(", {} ranks", grouped(attempt.ranks));
  if (!attempt.hosts.empty())
    text += fmt::format(" on {}{}", quoted(attempt.hosts.front()),
                        attempt.hosts.size() > 1 ? fmt::format(" and {} more", attempt.hosts.size() - 1) : "");
  if (!attempt.slurm_job_id.empty()) text += fmt::format(", Slurm job {}", quoted(attempt.slurm_job_id));
  if (!attempt.slurm_restart_count.empty()) text += fmt::format(" restart {}", quoted(attempt.slurm_restart_count));
  if (attempt.end) {
    if (attempt.end->step) text += fmt::format(", to step {}", grouped(*attempt.end->step));
    if (attempt.end->seconds) text += fmt::format(" in {}", duration(*attempt.end->seconds));
    text += ", " + ending(attempt.end->code, attempt.end->reason);
  } else if (!ended || !last) {
    text += last ? ", not ended: active, or killed" : ", killed";
  }
  return text + "\n";
}

/// The first, newest ones of `steps`.
std::string listed(const std::vector<std::int64_t>& steps) {
  constexpr std::size_t most = 8;
  std::string text;
  for (const std::int64_t step : std::span(steps).first(std::min(most, steps.size())))
    text += fmt::format("{}{}", text.empty() ? "" : ", ", grouped(step));
  return steps.size() > most ? text + ", …" : text;
}

}  // namespace

std::string run_summary(const std::string& run) {
  const RunState state = RunReader(run).poll(most_reading_s);
  const History& history = state.history;
  std::string text = fmt::format("{}: run\n", one_line(run));
  if (history.last) {
    text += fmt::format("  steps         {}", grouped(history.last->step));
    if (state.setup.steps) text += fmt::format(" of {}", grouped(*state.setup.steps));
    text += history.step_s > 0 ? fmt::format(", {} tokens/s\n", shortened(history.tokens / history.step_s)) : "\n";
  }
  if (history.first_loss) {
    text += fmt::format("  loss          first {:.6g}, last {}", *history.first_loss,
                        history.last->loss ? fmt::format("{:.6g}", *history.last->loss) : "–");
    if (history.best_evaluation)
      text += fmt::format("; best held-out {:.6g} at step {}", *history.best_evaluation->loss,
                          grouped(history.best_evaluation->step));
    else if (history.last_evaluation)
      text += "; held-out –";
    text += "\n";
  }
  const std::vector<std::int64_t> steps = published_steps(run);
  if (!steps.empty()) text += fmt::format("  checkpoints   {}, of steps {}\n", steps.size(), listed(steps));
  if (state.end) text += fmt::format("  end           {}\n", ending(state.end->code, state.end->reason));
  if (!state.attempts.empty()) text += "  attempts\n";
  for (const Attempt& attempt : state.attempts)
    text += attempt_line(attempt, &attempt == &state.attempts.back(), state.end.has_value());
  return text;
}

}  // namespace causeway

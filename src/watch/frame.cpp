#include "src/watch/frame.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "src/cli/exit_codes.hpp"
#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"
#include "src/run/natural_order.hpp"
#include "src/watch/curve.hpp"
#include "src/watch/rank_rows.hpp"
#include "src/watch/section.hpp"

namespace causeway {
namespace {

constexpr int narrow = 60;            // below it: no bars
constexpr int narrow_for_curve = 30;  // below it: no curve
constexpr int curve_importance = 4;   // after title, step, loss and speed; before everything else

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

/// At most nine characters for usual losses, so that the rest of the line has room.
std::string loss_text(double loss) {
  return std::abs(loss) < 1e5 ? fmt::format("{:.4f}", loss) : fmt::format("{:.3e}", loss);
}
/// "–" for a step or an evaluation without a label.
std::string loss_text(const std::optional<double>& loss, const Look& look) {
  return loss ? loss_text(*loss) : look.unicode ? "–" : "-";
}

/// Averages over the last steps; compute, exposed and hidden as shares of a step's time.
struct Pace {
  double step_s = 0, tokens_per_s = 0, compute = 0, exposed = 0, hidden = 0;
};

Pace pace_of(const History& history) {
  Pace pace;
  double seconds = 0, tokens = 0, compute = 0, exposed = 0, hidden = 0;
  for (const StepRecord& record : history.recent) {
    seconds += record.step_s.value_or(0);
    tokens += record.tokens.value_or(0);
    compute += record.compute_s.value_or(0);
    exposed += record.comm_exposed_s.value_or(0);
    hidden += record.comm_hidden_s.value_or(0);
  }
  if (history.recent.empty() || seconds <= 0) return pace;
  return {.step_s = seconds / static_cast<double>(history.recent.size()),
          .tokens_per_s = tokens / seconds,
          .compute = compute / seconds,
          .exposed = exposed / seconds,
          .hidden = hidden / seconds};
}

/// Estimated seconds to the last step. Evaluations and checkpoints are assumed as frequent and slow as so far.
std::optional<double> seconds_left(const RunState& run) {
  const Pace pace = pace_of(run.history);
  if (!run.history.last || !run.setup.steps || pace.step_s <= 0) return std::nullopt;
  const auto steps = static_cast<double>(*run.setup.steps - run.history.last->step);
  return std::max(0.0, steps) * (pace.step_s + run.history.beside_s / static_cast<double>(run.history.steps));
}

Span status_of(const RunState& run, double now) {
  if (run.end) {
    if (!run.end->code) return {"ended; its exit.json has no exit code", Style::warning};
    const std::optional<ExitCodeRow> row = exit_code_row(*run.end->code);
    if (*run.end->code == 0) return {"done", Style::good};
    return {fmt::format("ended with {}: {}", *run.end->code, row ? row->meaning : "not an exit code of Causeway"),
            row && row->code == ExitCode::requeue ? Style::warning : Style::bad};
  }
  if (run.unread_bytes > 0)
    return {fmt::format("reading, {} left", binary_bytes(static_cast<double>(run.unread_bytes))), Style::dim};
  if (!run.history.last || !run.metrics_modified) return {"no step yet", Style::dim};
  const double silent = now - *run.metrics_modified, usual = pace_of(run.history).step_s;
  if (silent > std::max(30.0, 10 * usual))
    return {fmt::format("no step for {} (usually {} each)", duration(silent), short_time(usual)), Style::warning};
  return {"running", Style::good};
}

std::string hosts_text(const std::vector<std::string>& hosts) {
  constexpr std::size_t most_named = 4;
  std::map<std::string, std::int64_t, NaturalLess> ranks;
  for (const std::string& host : hosts) ++ranks[host];
  if (ranks.empty()) return "";
  if (ranks.size() > most_named) return fmt::format("on {} hosts", ranks.size());
  std::string text;
  for (const auto& [host, count] : ranks)
    text += fmt::format("{}{}{}", text.empty() ? "on " : ", ", host.substr(0, 64),
                        ranks.size() > 1 ? fmt::format(" ({})", count) : "");
  return text;
}

Section title_section(const RunState& run, double now, const Look& look) {
  Row row("causeway", look);
  row.add(run.path, Style::bold);
  const Span status = status_of(run, now);
  row.add(status.text, status.style);
  return row.section(0);
}

/// The reason why the run ended; may take several lines.
Section reason_section(const RunState& run, const Look& look) {
  constexpr std::size_t longest = 400;
  Row row("reason", look, 1);
  if (run.end && run.end->code != 0) {
    const std::string reason = run.end->reason.substr(0, longest);
    for (std::size_t from = 0, end = 0; from < reason.size(); from = end + 1) {
      end = std::min(reason.find(' ', from), reason.size());
      row.add(std::string_view(reason).substr(from, end - from));
    }
  }
  return row.section(1);
}

Section model_section(const RunSetup& setup, const Look& look) {
  Row row("model", look);
  row.add(setup.model);
  if (setup.parameters) row.add(fmt::format("{} parameters", shortened(static_cast<double>(*setup.parameters))));
  row.add(setup.dtype);
  row.add(setup.device);
  return row.section(7);
}

Section ranks_section(const RunSetup& setup, const Look& look) {
  Row row("ranks", look);
  if (setup.ranks) {
    std::string text = grouped(*setup.ranks);
    if (setup.data && setup.context)
      text += fmt::format(" = {} data {} {} context", *setup.data, look.unicode ? "×" : "x", *setup.context);
    row.add(std::move(text));
  }
  row.add(setup.layout);
  row.add(hosts_text(setup.hosts));
  if (!setup.transport.empty()) row.add("by " + setup.transport);
  return row.section(8);
}

/// The number of this attempt, where it is not the first, and how the one before ended.
Section attempt_section(const RunState& run, double now, const Look& look) {
  Row row("attempt", look);
  if (run.attempts.size() < 2) return row.section(8);
  const Attempt &last = run.attempts.back(), &before = run.attempts[run.attempts.size() - 2];
  row.add(grouped(last.number));
  if (last.resumed_step > 0) row.add(fmt::format("from step {}", grouped(last.resumed_step)));
  if (!run.end && last.started > 0) row.add(fmt::format("for {}", duration(now - last.started)));
  if (!last.slurm_job_id.empty())
    row.add(fmt::format("Slurm job {}{}", last.slurm_job_id.substr(0, 32),
                        last.slurm_restart_count.empty() ? "" : ", restart " + last.slurm_restart_count.substr(0, 8)));
  if (!before.end)
    row.add("the previous one was killed");
  else if (before.end->code)
    row.add(fmt::format("the previous one ended with {}", *before.end->code));
  return row.section(8);
}

Section step_section(const RunState& run, const Look& look) {
  Row row("step", look);
  if (!run.history.last) return row.section(1);
  const std::int64_t step = run.history.last->step;
  if (!run.setup.steps || *run.setup.steps < 1) {
    row.add(grouped(step));
  } else {
    const double share = static_cast<double>(step) / static_cast<double>(*run.setup.steps);
    row.add(fmt::format("{} of {}", grouped(step), grouped(*run.setup.steps)));
    const std::optional<double> left = seconds_left(run);
    if (look.width >= narrow) row.add(draw_bar(share, std::clamp(look.width - 56, 8, 40), look.unicode), Style::accent);
    row.add(fmt::format("{:.1f} %", 100 * std::min(share, 1.0)));
    if (left && !run.end && *left > 0) row.add(fmt::format("{} left", duration(*left)));
  }
  return row.section(1);
}

Section loss_section(const History& history, const Look& look) {
  Row row("loss", look);
  if (history.last && history.last->step > 0) row.add(loss_text(history.last->loss, look), Style::bold);
  if (history.smoothed_loss) row.add(fmt::format("smoothed {}", loss_text(*history.smoothed_loss)));
  if (history.first_loss) row.add(fmt::format("first {}", loss_text(*history.first_loss)));
  if (history.last_evaluation) {
    const auto [step, found] = *history.last_evaluation;
    row.add(fmt::format("held-out {} at {}", loss_text(found, look), grouped(step)));
    if (history.best_evaluation && history.best_evaluation->step == step)
      row.add("the best");
    else if (history.best_evaluation)
      row.add(fmt::format("best {} at {}", loss_text(history.best_evaluation->loss, look),
                          grouped(history.best_evaluation->step)));
  }
  return row.section(2);
}

Section rate_section(const StepRecord& last, const Look& look) {
  Row row("rate", look);
  if (last.learning_rate) row.add(fmt::format("learning rate {:.2e}", *last.learning_rate));
  if (last.grad_norm) row.add(fmt::format("gradient norm {:.3g}", *last.grad_norm));
  return row.section(9);
}

Section speed_section(const History& history, const Look& look) {
  Row row("speed", look);
  const Pace pace = pace_of(history);
  if (pace.step_s > 0) {
    row.add(fmt::format("{} tokens/s", shortened(pace.tokens_per_s)), Style::bold);
    row.add(fmt::format("{} on average", shortened(history.tokens / history.step_s)));
    row.add(fmt::format("{} a step", short_time(pace.step_s)));
    row.add(fmt::format("{} tokens in all", shortened(history.tokens)));
  }
  if (history.last->mfu) row.add(fmt::format("MFU {:.3f}", *history.last->mfu));
  return row.section(3);
}

Section time_section(const History& history, const Look& look) {
  Row row("time", look);
  const Pace pace = pace_of(history);
  if (pace.compute + pace.exposed > 0) {
    if (look.width >= narrow)
      row.add(draw_bar(pace.compute / (pace.compute + pace.exposed), 20, look.unicode), Style::accent);
    row.add(fmt::format("computing {}", percent(pace.compute)));
    row.add(fmt::format("communicating {}", percent(pace.exposed)), pace.exposed > 0.3 ? Style::warning : Style::plain);
    row.add(fmt::format("hidden behind computing {}", percent(pace.hidden)));
  }
  return row.section(5);
}

Section resources_section(const History& history, const Look& look) {
  Row row("memory", look);
  if (history.last->memory_bytes)
    row.add(fmt::format("{} on the largest rank", binary_bytes(*history.last->memory_bytes)));
  if (history.last->bytes_sent) {
    row.add(fmt::format("sent {} in the step", binary_bytes(*history.last->bytes_sent)));
    row.add(fmt::format("{} in all", binary_bytes(history.bytes_sent)));
  }
  return row.section(10);
}

Section saved_section(const RunState& run, const Look& look) {
  Row row("saved", look);
  const History& history = run.history;
  const std::optional<std::int64_t> step = run.latest_checkpoint ? run.latest_checkpoint
                                           : history.published   ? std::optional(history.published->step)
                                                                 : std::nullopt;
  if (!step) return row.section(6);
  const std::int64_t since = history.last->step - *step;
  row.add(fmt::format("step {}{}", grouped(*step), since > 0 ? fmt::format(", {} steps ago", grouped(since)) : ""));
  if (history.last_checkpoint_s) row.add(fmt::format("cost the step {}", short_time(*history.last_checkpoint_s)));
  if (history.published && history.published->write_s)
    row.add(fmt::format("written in {}", short_time(*history.published->write_s)));
  if (history.published && history.published->bytes) row.add(binary_bytes(*history.published->bytes));
  return row.section(6);
}

Section balance_section(const StepRecord& last, const Look& look) {
  Row row("balance", look);
  if (last.balance) {
    const double share = std::min(*last.balance, 1.0);
    row.add(fmt::format("{:.2f}", share), share < 0.8 ? Style::warning : Style::plain);
    row.add(last.slowest_rank ? fmt::format("mean computing time / that of rank {}, the slowest", *last.slowest_rank)
                              : "mean computing time / that of the slowest rank");
  }
  return row.section(11);
}

Section curve_section(const History& history, const Look& look, int rows) {
  constexpr int axis = 10;
  Section section{.importance = curve_importance};
  const Curve curve = draw_curve(history.losses, history.evaluations, look.width - axis, rows, look.unicode);
  for (std::size_t row = 0; row < curve.rows.size(); ++row) {
    const bool top = row == 0, bottom = row + 1 == curve.rows.size();
    const std::string value = top ? loss_text(curve.high) : bottom ? loss_text(curve.low) : "";
    section.lines.push_back(
        {{fmt::format("{:>{}} {}", value, axis - 2, look.unicode ? (top || bottom ? "┤" : "│") : "|"), Style::dim},
         {curve.rows[row], Style::accent}});
  }
  std::string first = fmt::format("step {}", grouped(curve.first_step));
  const std::string last = grouped(curve.last_step);
  if (curve.highest > curve.high) {
    const std::string above = fmt::format("   ^ above the axis, up to {}", loss_text(curve.highest));
    if (axis + columns_of(first + above) + columns_of(last) < look.width) first += above;
  }
  const int gap = look.width - axis - columns_of(first) - columns_of(last);
  section.lines.push_back({{fmt::format("{:{}}{}{:{}}{}", "", axis, first, "", std::max(gap, 1), last), Style::dim}});
  return section;
}

int lines_in(const std::vector<Section>& sections) {
  int lines = 0;
  for (const Section& section : sections) lines += static_cast<int>(section.lines.size());
  return lines;
}

/// Removes the least important sections, of those that are less important than `kept`, until the others fit.
void remove_least_important(std::vector<Section>& sections, int height, int kept) {
  while (lines_in(sections) > height) {
    const auto least = std::ranges::max_element(sections, {}, &Section::importance);
    if (least->importance <= kept) return;
    sections.erase(least);
  }
}

/// Shortens loss and speed to a line each, the less important first, until all sections fit.
void shorten(std::vector<Section>& sections, int height) {
  for (const int importance : {3, 2})
    for (Section& section : sections)
      if (section.importance == importance && lines_in(sections) > height && section.lines.size() > 1)
        section.lines.resize(1);
}

}  // namespace

std::vector<std::string> build_frame(const RunState& run, double now, const Look& asked) {
  constexpr int fewest_rows = 3, most_rows = 14;
  Look look = asked;
  look.width = std::max(look.width, 1);
  look.height = std::max(look.height, 1);
  const History& history = run.history;

  std::vector<Section> sections = {title_section(run, now, look), reason_section(run, look)};
  if (!run.end) sections.push_back(silent_ranks(run.ranks, now, look));
  sections.push_back(model_section(run.setup, look));
  sections.push_back(ranks_section(run.setup, look));
  sections.push_back(attempt_section(run, now, look));
  sections.push_back(step_section(run, look));
  sections.push_back(loss_section(history, look));
  sections.push_back({.importance = curve_importance, .lines = {}});  // the curve's place
  if (history.last) {
    sections.push_back(rate_section(*history.last, look));
    sections.push_back(speed_section(history, look));
    sections.push_back(time_section(history, look));
    sections.push_back(resources_section(history, look));
    sections.push_back(saved_section(run, look));
    sections.push_back(balance_section(*history.last, look));
  }
  // A fourth of the lines is the curve's, and one more is its axis. The table of ranks may take half of what remains,
  // and the curve takes the rest.
  const bool curve = history.losses.buckets().size() > 1 && look.width >= narrow_for_curve;
  const int for_curve = curve ? std::clamp(look.height / 4, fewest_rows, most_rows) + 1 : 0;
  remove_least_important(sections, look.height - for_curve, curve_importance);
  const auto room = [&] { return look.height - lines_in(sections); };
  if (look.width >= narrow && room() > for_curve)
    sections.push_back(rank_rows(run.ranks, now, look, curve ? std::min(room() / 2, room() - for_curve) : room()));
  if (curve) {
    shorten(sections, look.height - fewest_rows - 1);
    if (room() > fewest_rows)
      *std::ranges::find(sections, curve_importance, &Section::importance) =
          curve_section(history, look, std::min(room() - 1, most_rows));
  }
  remove_least_important(sections, look.height, 0);

  std::vector<std::string> lines;
  for (const Section& section : sections)
    for (const Line& line : section.lines)
      if (std::ssize(lines) < look.height) lines.push_back(render(line, look));
  return lines;
}

std::string status_line(const RunState& run, double now, const Look& look) {
  const Span status = status_of(run, now);
  std::string text = status.text;
  if (const auto& last = run.history.last) {
    text = fmt::format("step {}", grouped(last->step));
    if (run.setup.steps) text += fmt::format(" of {}", grouped(*run.setup.steps));
    if (last->step > 0) text += fmt::format("  loss {}", loss_text(last->loss, look));
    const Pace pace = pace_of(run.history);
    if (pace.step_s > 0) text += fmt::format("  {} tokens/s", shortened(pace.tokens_per_s));
    if (const auto left = seconds_left(run); left && *left > 0 && !run.end)
      text += fmt::format("  {} left", duration(*left));
    text += "  " + status.text;
  }
  return render({{std::move(text)}}, look);
}

}  // namespace causeway

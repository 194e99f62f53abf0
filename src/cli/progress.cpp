#include "src/cli/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"
#include "src/output/standard_streams.hpp"

namespace causeway {
namespace {

constexpr double seconds_between_lines = 5;
constexpr double seconds_between_bars = 0.1;

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20 ? size.ws_col : 80;
}

double share(std::int64_t done, std::int64_t total) {
  return total <= 0 ? 0 : std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
}

std::string facts(std::int64_t done, std::int64_t total, std::string_view unit, double seconds, std::string_view note) {
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  std::string text = total > 0 ? fmt::format("{} of {} {} ({:.0f} %)", shortened(static_cast<double>(done)),
                                             shortened(static_cast<double>(total)), unit, 100 * share(done, total))
                               : fmt::format("{} {}", shortened(static_cast<double>(done)), unit);
  if (rate > 0) text += fmt::format(", {} {}/s", shortened(rate), unit);
  if (rate > 0 && done < total) text += fmt::format(", {} left", duration(static_cast<double>(total - done) / rate));
  if (!note.empty()) text += fmt::format(", {}", note);
  return text;
}

}  // namespace

std::string progress_line(std::string_view title, std::int64_t done, std::int64_t total, std::string_view unit,
                          double seconds, std::string_view note) {
  return one_line(fmt::format("{}: {}", title, facts(done, total, unit, seconds, note)));
}

std::string progress_bar(std::string_view title, std::int64_t done, std::int64_t total, std::string_view unit,
                         double seconds, std::string_view note, int width) {
  constexpr int bar = 24;
  const int full = static_cast<int>(std::lround(bar * share(done, total)));
  std::string text = total > 0 ? fmt::format("{} [{}{}] ", title, std::string(static_cast<std::size_t>(full), '#'),
                                             std::string(static_cast<std::size_t>(bar - full), '.'))
                               : fmt::format("{} ", title);
  const std::string whole = one_line(text + facts(done, total, unit, seconds, note));
  std::string_view left = whole;
  text.clear();
  for (int column = 1; column < std::max(width, 2); ++column) {  // overwrites the previous bar, and never wraps
    const std::size_t bytes = left.empty() ? 0 : first_character(left).bytes;
    text += left.empty() ? " " : left.substr(0, bytes);
    left.remove_prefix(bytes);
  }
  return text;
}

Progress::Progress(std::string title, std::int64_t total, std::string unit, bool shown)
    : title_(std::move(title)),
      total_(total),
      unit_(std::move(unit)),
      shown_(shown),
      terminal_(isatty(STDERR_FILENO) == 1),
      started_(Clock::now()),
      drawn_(started_) {}

Progress::~Progress() {
  if (open_) write_log("\n");
}

void Progress::update(std::int64_t done, std::string_view note) {
  done_ = done;
  const double since = std::chrono::duration<double>(Clock::now() - drawn_).count();
  if (shown_ && since >= (terminal_ ? seconds_between_bars : seconds_between_lines)) draw(note, false);
}

void Progress::finish(std::string_view note) {
  if (shown_) draw(note, true);
}

void Progress::draw(std::string_view note, bool last) {
  drawn_ = Clock::now();
  const double seconds = std::chrono::duration<double>(drawn_ - started_).count();
  if (terminal_)
    write_log(fmt::format("\r{}{}", progress_bar(title_, done_, total_, unit_, seconds, note, terminal_width()),
                          last ? "\n" : ""));
  else
    write_log(fmt::format("{}\n", progress_line(title_, done_, total_, unit_, seconds, note)));
  open_ = terminal_ && !last;
}

}  // namespace causeway

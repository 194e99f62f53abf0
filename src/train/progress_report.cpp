#include "src/train/progress_report.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <iterator>
#include <numbers>
#include <string_view>

#include "src/cli/number_format.hpp"
#include "src/output/safe_text.hpp"

namespace causeway {
namespace {

std::string bits_text(double nats) { return fmt::format("{:.3f} bits a token", nats / std::numbers::ln2); }

}  // namespace

bool ProgressSchedule::due(std::int64_t step, double seconds) {
  const bool by_step = !last_ || step == steps_ || step % every_ == 0;
  if (!by_step && seconds - *last_ < longest_silence_s) return false;
  last_ = seconds;
  return true;
}

double TimeLeft::after(std::int64_t step, std::int64_t steps, double seconds) {
  if (step == first_step_ + 1) end_of_first_ = seconds;
  const auto since_first = static_cast<double>(step - first_step_ - 1);
  const double each = since_first > 0 ? (seconds - end_of_first_) / since_first : seconds;
  return each * static_cast<double>(steps - step);
}

std::string loss_text(std::string_view name, const std::optional<double>& nats) {
  return nats ? fmt::format("{} {:.4f}  {}", name, *nats, bits_text(*nats)) : fmt::format("{} –", name);
}

std::string progress_line(const StepProgress& progress, int columns) {
  const std::string steps = grouped(progress.steps);
  struct Item {
    std::string text;
    int left_out = 0;  // the number of its turn; 0: it always stays
  };
  Item items[] = {
      {fmt::format("step {:>{}} of {}", grouped(progress.step), steps.size(), steps)},
      {fmt::format("epoch {:.2f}", progress.epoch), 3},
      {fmt::format("loss {}", progress.loss ? fmt::format("{:.4f}", *progress.loss) : "–")},
      {progress.loss ? bits_text(*progress.loss) : "", 2},
      {fmt::format("{} tokens/s", shortened(progress.tokens_per_s))},
      {duration(progress.elapsed_s), 1},
      {progress.step < progress.steps ? fmt::format("{} left", duration(progress.left_s)) : ""},
  };
  for (int turn = 0;; ++turn) {
    std::string line;
    for (const Item& item : items)
      if (!item.text.empty() && (item.left_out == 0 || item.left_out > turn))
        line += fmt::format("{}{}", line.empty() ? "" : "  ", item.text);
    if (turn == 3 || columns == 0 || columns_of(line) <= columns) return line;
  }
}

int log_columns() {
  winsize size{};
  return ::isatty(STDERR_FILENO) == 1 && ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                                                           : 0;
}

}  // namespace causeway

#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace causeway {

/// Decides after which steps a line of progress is printed: the first step of this attempt, every --log-every steps,
/// the last step, and whenever no line was printed for ten seconds. It is told the time, so tests need no clock.
class ProgressSchedule {
 public:
  static constexpr double longest_silence_s = 10;

  ProgressSchedule(std::int64_t every, std::int64_t steps) : every_(every), steps_(steps) {}
  /// Whether a line is due after `step`, which ended at `seconds`; if so, it is taken as printed.
  bool due(std::int64_t step, double seconds);

 private:
  std::int64_t every_, steps_;
  std::optional<double> last_;  // when the last line was printed
};

/// Estimates the seconds to the last step from the mean time of the steps so far, with the evaluations and checkpoints
/// between them. The first step, which is slower than others, counts only as long as there is no other.
class TimeLeft {
 public:
  explicit TimeLeft(std::int64_t first_step) : first_step_(first_step) {}
  /// `seconds` since the start of the attempt, whose first step had the number first_step + 1; called after each step.
  double after(std::int64_t step, std::int64_t steps, double seconds);

 private:
  std::int64_t first_step_;
  double end_of_first_ = 0;
};

/// What a line of progress says.
struct StepProgress {
  std::int64_t step = 0, steps = 0;
  double epoch = 0;            ///< tokens seen / tokens of the data
  std::optional<double> loss;  ///< nats a label; no value where the step had no label
  double tokens_per_s = 0;
  double elapsed_s = 0, left_s = 0;
};
/// "step 20 of 1,000  epoch 0.24  loss 1.3912  2.007 bits a token  12.3k tokens/s  12 s  8 min 20 s left". On a
/// terminal of `columns` columns, of which a line must not take more, it leaves out elapsed time, bits and epoch, in
/// this order; 0: a log, of any width.
std::string progress_line(const StepProgress& progress, int columns);

/// "loss 1.3912  2.007 bits a token"; "loss –" without a value. `name`: "loss" or "held-out".
std::string loss_text(std::string_view name, const std::optional<double>& nats);

/// The columns of the terminal that standard error is; 0 where it is none.
int log_columns();

}  // namespace causeway

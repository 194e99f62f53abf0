#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>

#include "src/watch/series.hpp"

namespace causeway {

/// One line of metrics.jsonl. Members that the line lacks, or that are not finite numbers, have no value.
struct StepRecord {
  std::int64_t step = 0;
  std::optional<double> loss, learning_rate, grad_norm, tokens, step_s, compute_s, comm_exposed_s, comm_hidden_s,
      bytes_sent, memory_bytes, balance, mfu, eval_loss, eval_s, checkpoint_s;
  std::optional<std::int64_t> slowest_rank, checkpoint_step;
  /// Of checkpoint_step, which was published during this step.
  std::optional<double> checkpoint_write_s, checkpoint_bytes;

  /// Returns no value where the line is not a JSON object with a step.
  static std::optional<StepRecord> parse(std::string_view line);
};

/// Statistics of a run's lines, in bounded memory.
struct History {
  /// A held-out loss and its step. No loss where the held-out data have no label.
  struct Evaluation {
    std::int64_t step = 0;
    std::optional<double> loss;
  };
  struct Published {
    std::int64_t step = 0;
    std::optional<double> lost_s;   ///< seconds that the training thread lost
    std::optional<double> write_s;  ///< seconds of writing in the background
    std::optional<double> bytes;
  };
  static constexpr std::size_t most_recent = 32;

  void add(const StepRecord& record);

  std::int64_t lines = 0, first_step = 0;
  std::optional<StepRecord> last;
  std::deque<StepRecord> recent;  ///< the last lines of training steps
  Series losses, evaluations;
  std::optional<double> first_loss, smoothed_loss;
  std::optional<Evaluation> last_evaluation, best_evaluation;
  std::optional<Published> published;
  std::optional<double> last_checkpoint_s;
  double tokens = 0, step_s = 0, bytes_sent = 0, beside_s = 0;  ///< sums; beside_s: of evaluations and checkpoints
  std::int64_t steps = 0;                                       ///< number of lines with step_s
};

}  // namespace causeway

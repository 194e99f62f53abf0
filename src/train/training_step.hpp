#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/checkpoint/checkpoint_writer.hpp"
#include "src/train/step_measurements.hpp"

namespace causeway {

/// The record of one training step, from which its line of metrics.jsonl is made.
struct TrainingStep {
  std::int64_t number = 0;
  std::int64_t tokens = 0;     ///< of all packs of the step, over all data groups
  std::optional<double> loss;  ///< nats a label, over all packs; no value where they have no label
  double learning_rate = 0;
  /// No value where the step has no label: it then leaves the weights as they are.
  std::optional<double> gradient_norm;
  StepMeasurements measured;
  std::optional<double> mfu;  ///< model FLOP utilisation, a share of gemm_rate(); on a GPU only
  bool stop = false;          ///< a rank has received a signal
  std::optional<double> eval_loss, eval_s, checkpoint_s;  ///< eval_loss has no value either without a label
  CheckpointProgress writing;                             ///< of the checkpoint being written, summed over the ranks
  std::optional<PublishedCheckpoint> published;           ///< the last checkpoint that was published during this step

  void add(std::optional<PublishedCheckpoint> checkpoint) {
    if (checkpoint) published = std::move(checkpoint);
  }
  double tokens_per_s() const;
  /// Its line of metrics.jsonl.
  nlohmann::ordered_json metrics_line() const;
};

}  // namespace causeway

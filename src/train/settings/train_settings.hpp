#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/data/packing.hpp"
#include "src/cli/config.hpp"
#include "src/cli/launch.hpp"
#include "src/health/fault_settings.hpp"
#include "src/model/optimizer.hpp"
#include "src/train/data/pack_on_rank.hpp"
#include "src/train/settings/compute_settings.hpp"
#include "src/train/settings/model_settings.hpp"
#include "src/train/settings/step_options.hpp"

namespace causeway {

inline constexpr std::int64_t default_steps = 1000, default_trace_steps = 3;

/// All options of `causeway train`, with their defaults.
struct TrainSettings {
  LaunchOptions launch;
  ModelSettings model;
  ComputeSettings compute;
  MemorySettings memory;
  FaultSettings faults;
  std::vector<std::string> data;
  std::string run;
  std::optional<std::int64_t> asked_steps;  ///< --steps
  std::optional<double> epochs;             ///< --epochs; excludes --steps
  std::int64_t steps = default_steps;       ///< in total, as --steps or --epochs give them
  std::int64_t pack_tokens = 8192, window = 256, accumulate = 1, seed = 0;
  std::string policy = "greedy", long_documents = "cut", deal = "auto", loss_normalisation = "step";
  double learning_rate = 1e-3, learning_rate_floor = 0.1, beta1 = 0.9, beta2 = 0.95, weight_decay = 0.1, clip = 1;
  std::int64_t warmup_steps = 0;
  std::int64_t checkpoint_every = 0, keep_last = 0, keep_every = 0, eval_every = 0, eval_packs = 0, log_every = 10;
  std::string resume, init_from;
  std::vector<std::string> valid_data;
  IniOrigin origin;  ///< of the options that config.ini gave
  bool allow_changed_data = false;
  bool tensorboard = false, dry_run = false;
  std::string trace;  ///< file
  std::int64_t trace_steps = default_trace_steps;
};

/// Throws Error(usage) that names the first wrong option.
void check(const TrainSettings& settings);
PackingOptions packing_of(const TrainSettings& settings);
LabelWeights label_weights_of(const TrainSettings& settings);
LearningRate schedule_of(const TrainSettings& settings);
OptimizerOptions optimizer_options_of(const TrainSettings& settings);

}  // namespace causeway

#pragma once

#include <optional>
#include <string>

#include "src/bench/step/step_documents.hpp"
#include "src/bench/step/step_parts.hpp"
#include "src/train/settings/compute_settings.hpp"
#include "src/train/settings/model_settings.hpp"
#include "src/train/settings/step_options.hpp"

namespace causeway {

/// What `bench step` measures.
struct StepSettings {
  ModelSettings model;
  ComputeSettings compute;  ///< with the dtype settled
  MemorySettings memory;
  std::int64_t tokens = 8192;
  std::string lengths = "packed";  ///< "packed", "one", or a file
  std::string policy = "greedy";
  std::int64_t window = PackingOptions{}.window, accumulate = 1;
  std::optional<std::int64_t> steps = {};  ///< to measure; no value: as many as take two seconds, 5 to 25
  bool one_at_a_time = false, padded = false;
};

/// The same documents in other passes.
struct StepComparison {
  StepCount count;  ///< of all data groups
  double step_s = 0;
  double tokens_per_s() const { return static_cast<double>(count.tokens) / step_s; }
};

/// The communication of a step without a trace: means over the steps. Times are also means over the ranks.
struct StepTraffic {
  double exposed_s = 0, hidden_s = 0;  ///< as Traffic has them
  double bytes_sent = 0;               ///< by all ranks together
};

/// Training steps, as measured. Times are those of the slowest rank.
struct StepMeasurement {
  ModelOptions shape;
  std::int64_t parameters = 0;
  int ranks = 1, data_groups = 1;
  StepCount count;                              ///< of all data groups
  std::int64_t most_places = 0;                 ///< that the packs have room for
  double step_s = 0;                            ///< the median
  std::vector<double> steps_s;                  ///< of each step, in their order
  std::optional<double> mfu, gemm_flops_per_s;  ///< on a GPU only
  std::int64_t memory_bytes = 0;                ///< the largest rank's peak of tensor memory
  double predicted_bytes = 0;                   ///< the same as --dry-run estimates it
  StepTraffic traffic;
  StepParts parts;         ///< of the first rank; their sum is step_s. None where a step takes 8 s or more
  double traced_s = 0;     ///< the sum of the parts in the steps that were traced
  double parts_scale = 1;  ///< by which the traced parts were multiplied
  std::string strategies;
  std::optional<StepComparison> one_at_a_time, padded;

  double tokens_per_s() const { return static_cast<double>(count.tokens) / step_s; }
  double fill() const { return static_cast<double>(count.tokens) / static_cast<double>(most_places); }
};

/// Throws Error(usage) that names the first wrong option, or the file of lengths and the line.
void check(const StepSettings& settings);

/// Trains on random tokens: the same packs in every step, by the code that `train` runs. First steps without any
/// instrumentation, which give the time; then a few with a trace, which give the parts; then the comparisons.
/// Collective; the result is the same on every rank but for the parts.
StepMeasurement measure_step(const StepSettings& settings, Communicator world);

}  // namespace causeway

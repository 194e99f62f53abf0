#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/file/metrics.hpp"
#include "src/cli/log.hpp"
#include "src/cli/signals.hpp"
#include "src/health/watchdog.hpp"
#include "src/train/checkpointing.hpp"
#include "src/train/fault_injection.hpp"
#include "src/train/train_settings.hpp"
#include "src/train/training_data.hpp"

namespace causeway {

/// Trains a model on this rank's part of a data × context mesh. A step takes `accumulate` packs on every data group:
/// pack (step·accumulate + k)·data
/// + data index of one global sequence. Its loss is Σ token losses / Σ labels over all of them, the same number however
/// the step is cut.
class Trainer {
 public:
  /// `config`: what config.ini shall hold, of the settings as used.
  using Config = std::function<std::string(const TrainSettings&)>;
  Trainer(const TrainSettings& settings, const Config& config, Communicator world, const StopSignals& signals);

  /// To the last step, or to the step after a signal (ExitCode::requeue).
  ExitCode run();
  /// What would be trained, in words: parameters, memory, mesh.
  std::string plan() const;

 private:
  struct Step;

  void choose();
  void restore();
  void make_run_folder();
  void open_run_folder(const Config& config);
  Pass pass(const PackOnRank& work) { return {runtime_, *work.sharding}; }

  ExitCode train();
  Step train_step(std::int64_t number);
  [[noreturn]] void report_non_finite(std::int64_t step, const std::vector<Pack>& packs, const std::string& what);
  double evaluate();
  void save(Step& step);
  void finish_checkpoint();
  void write_metrics(const Step& step, bool amend);
  void write_exit(ExitCode code, const std::string& reason) const;
  void write_exit_of_own(const Error& error) const;
  void write_exit_file(ExitCode code, const std::string& reason) const;

  TrainSettings settings_;
  std::shared_ptr<Faults> faults_;  // null in a normal run
  std::shared_ptr<RankProgress> rank_progress_;
  Watchdog watchdog_;
  Runtime runtime_;
  Layout layout_;
  std::string choice_;  // of strategies, explained
  Log log_;
  const StopSignals& signals_;
  DataMixture data_, valid_;
  StartingPoint start_;
  Model model_;
  std::optional<Optimizer> optimizer_;
  std::optional<PackSequence> packs_;
  std::optional<MetricsLog> metrics_;  // rank 0's
  std::int64_t step_ = 0, tokens_seen_ = 0;
  double loss_ = 0;
  std::optional<double> gemm_rate_;            // where MFU is reported: on a GPU
  std::optional<RunCheckpoints> checkpoints_;  // gone before what it writes from
};

}  // namespace causeway

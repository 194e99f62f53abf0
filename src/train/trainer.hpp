#pragma once

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/file/metrics_log.hpp"
#include "src/cli/log.hpp"
#include "src/cli/signals.hpp"
#include "src/health/watchdog.hpp"
#include "src/model/model_update.hpp"
#include "src/run/tensorboard_log.hpp"
#include "src/runtime/run_trace.hpp"
#include "src/train/checkpointing.hpp"
#include "src/train/data/pack_on_rank.hpp"
#include "src/train/data/pack_sequence.hpp"
#include "src/train/fault_injection.hpp"
#include "src/train/settings/train_settings.hpp"
#include "src/train/training_step.hpp"

namespace causeway {

/// Trains a model on this rank's part of a data × context mesh. In each step every data group takes `accumulate` packs:
/// number (step · accumulate + k) · data groups + data index of one global sequence, for k < accumulate; with
/// `--deal balanced` as many of the same packs, so that all groups have about the same work. The step's
/// loss is Σ weight · token loss / Σ weight over the labels of all packs, which does not depend on how the packs are
/// cut.
class Trainer {
 public:
  /// Returns the content of config.ini for the settings as used.
  using Config = std::function<std::string(const TrainSettings&)>;
  Trainer(const TrainSettings& settings, const Config& config, Communicator world, const StopSignals& signals);

  /// Trains to the last step, or to the end of the step in which a rank received a signal (ExitCode::requeue).
  ExitCode run();
  /// A description of the training for a person: parameters, memory, mesh, data.
  std::string plan() const;
  /// What --dry-run prints: the plan and the reasons for the strategies; whether it fits into memory; epochs; the time
  /// of a step, from a few steps that are trained and forgotten where they take seconds. Writes no file. Collective.
  std::string dry_run();

 private:
  struct DealtPacks {
    std::vector<Pack> own;    ///< of this rank's data group
    std::int64_t tokens = 0;  ///< of all data groups
    double flops = 0;         ///< of all data groups
  };
  struct PreparedStep {
    DealtPacks packs;
    std::int64_t cursor = 0;  ///< of the sequence of packs, after these
    PackOnRank first;         ///< the first of this rank's packs, read
  };
  struct Evaluation {
    std::optional<double> loss;  ///< no value where the held-out packs have no label
    double seconds = 0;
  };

  void prepare_training(const Config& config);
  void stop_if_signalled() const;
  void agree_on_signals_before_first_step();
  void write_exit_of_stopped_start(const AgreedError& error) const;
  void resolve_deal();
  void resolve_steps();
  PackSequence::CostOfPack cost_of_packs() const;
  void identify_data();
  void choose_operator_strategies();
  void set_initial_state();
  void open_trace();
  void make_run_directory();
  void open_run_directory(const Config& config);
  Pass pass(const PackOnRank& work) { return {runtime_, *work.sharding}; }

  ExitCode train();
  TrainingStep train_step(std::int64_t number);
  PreparedStep prepare_step();
  void prepare_next_step(const TrainingStep& step);
  DealtPacks deal_packs();
  void finish(TrainingStep& step, const std::vector<Pack>& packs);
  void report(TrainingStep& step, std::int64_t own_tokens, double flops, const RankMeasurements& measured);
  [[noreturn]] void stop_at_non_finite(std::int64_t step, const std::vector<Pack>& packs, const std::string& what);
  std::optional<double> evaluate();
  Evaluation timed_evaluation();
  void evaluate_before_training();
  std::string step_time(double flops);
  double epochs_seen() const;
  void print_resume_command() const;
  void save(TrainingStep& step);
  void finish_checkpoint();
  void write_metrics(const TrainingStep& step, bool amend);
  void show_in_tensorboard(const nlohmann::ordered_json& line);
  void write_exit(ExitCode code, const std::string& reason) const;
  void write_exit_of_this_rank(const Error& error) const;
  void write_exit_file(ExitCode code, const std::string& reason) const;

  TrainSettings settings_;
  std::shared_ptr<Faults> faults_;  // null in a normal run
  std::shared_ptr<RankProgress> rank_progress_;
  Watchdog watchdog_;
  Runtime runtime_;
  Layout layout_;
  std::string choice_;  // explains how the strategies were chosen
  Log log_;
  const StopSignals& signals_;
  bool first_step_dealt_ = false;   // the first step of this attempt has its packs
  std::int64_t most_packs_a_step_;  // of all attempts: bounds the checkpoint's cursor
  DataMixture data_, valid_;
  ResumeRecord resume_record_;
  nlohmann::ordered_json data_identities_, valid_identities_;  // as environment.json has them
  StartingPoint start_;
  Model model_;
  std::optional<Optimizer> optimizer_;
  std::optional<ModelUpdate> update_;
  std::optional<PackSequence> packs_;
  std::future<PreparedStep> prepared_;         // the next step, or the error of preparing it
  std::int64_t cursor_ = 0;                    // of the sequence of packs, after those of the last step
  std::optional<MetricsLog> metrics_;          // on rank 0 only
  std::optional<TensorBoardLog> tensorboard_;  // the same; with --tensorboard
  std::optional<RunTrace> trace_;              // with --trace
  std::int64_t step_ = 0, tokens_seen_ = 0;
  std::optional<double> loss_;                 // of the last step; no value where it had no label
  std::optional<double> gemm_rate_;            // where MFU is reported: on a GPU
  std::optional<RunCheckpoints> checkpoints_;  // destroyed before the tensors that it writes
};

}  // namespace causeway

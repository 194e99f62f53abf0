#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint.hpp"
#include "io/checkpoint/checkpoint_writer.hpp"
#include "io/file/run_lock.hpp"
#include "src/cli/log.hpp"
#include "src/model/model.hpp"
#include "src/model/optimizer.hpp"
#include "src/runtime/runtime.hpp"
#include "src/train/settings/train_settings.hpp"

namespace causeway {

/// The checkpoint that a run starts from, if any.
struct StartingPoint {
  std::optional<Checkpoint> checkpoint;  ///< with every file checked; no value for a new run
  bool resumes = false;                  ///< true: the run continues from it; false: only its weights are used
  std::vector<std::int64_t> damaged;     ///< steps of newer checkpoints that are damaged
  RunLock lock;                          ///< of the run directory, if that exists; on the first rank only
};

/// Finds it by --resume and --init-from, after removing incomplete checkpoints that a crash left in the run directory.
/// `--resume auto` takes the newest checkpoint without damage, warns of each newer one that is damaged, and throws
/// Error(corrupt) where all of the run's checkpoints are damaged. Throws Error(usage) where the run has checkpoints
/// newer than the one it would continue from, because they would mix with those still to be written. Collective; all
/// errors are AgreedErrors. `heartbeat` is called regularly while files are read, now and when the checkpoint is read
/// later.
StartingPoint find_starting_point(const TrainSettings& settings, Communicator& world, const Log& log,
                                  const std::function<void()>& heartbeat);

/// The model that the options describe; all settings that they do not contain are as in the checkpoint. Collective.
Model::Options model_to_train(const TrainSettings& settings, const StartingPoint& start, Communicator& world);

/// The state of a run in addition to weights and optimizer.
struct TrainingState {
  std::int64_t step = 0, tokens_seen = 0, cursor = 0;  ///< cursor: number of packs taken from the sequence
  /// The largest number of packs that a step took, over all attempts; 0 in checkpoints of versions before 0.3.
  std::int64_t most_packs_a_step = 0;
  std::int64_t seed = 0;
  std::optional<double> loss;  ///< of the last step; NaN in the file where that had no label
};
/// Reads it from a checkpoint. Throws Error(corrupt) where it, or the description of the model, is invalid.
TrainingState training_state_of(const Checkpoint& checkpoint);

/// Reads the weights. Collective.
void restore_weights(const Checkpoint& checkpoint, Model& model, Runtime& runtime);
/// Reads the optimizer state and the training state, with which a run resumes. Collective; throws AgreedError(usage)
/// where the settings do not fit them.
TrainingState restore_run(const Checkpoint& checkpoint, const TrainSettings& settings, const Model& model,
                          const Optimizer& optimizer, Runtime& runtime);

/// The attributes that resume_record() (resume_checks.hpp) returns.
using ResumeRecord = std::map<std::string, hdf5::Value>;

/// Writes a run's checkpoints while it trains, logs each published one, and removes older ones as --keep-last and
/// --keep-every say.
class RunCheckpoints {
 public:
  /// `damaged`: as in StartingPoint.
  RunCheckpoints(const TrainSettings& settings, ResumeRecord record, Runtime& runtime, const Log& log,
                 std::vector<std::int64_t> damaged, CheckpointHook hook);

  /// Copies everything to host memory and returns; a thread writes it. First waits for the previous checkpoint, and
  /// returns that one.
  std::optional<PublishedCheckpoint> save(const TrainingState& state, const Model& model, const Optimizer& optimizer);
  /// This rank's progress. The trainer sums it over the ranks, in a sum that every step needs anyway, and gives the
  /// result to advance(), which returns the checkpoint when it has been published.
  CheckpointProgress progress() { return writer_.progress(); }
  std::optional<PublishedCheckpoint> advance(CheckpointProgress sum);
  /// Waits until the checkpoint being written is published.
  std::optional<PublishedCheckpoint> finish();

 private:
  std::optional<PublishedCheckpoint> announced(std::optional<PublishedCheckpoint> published) const;

  const TrainSettings& settings_;
  ResumeRecord record_;
  Runtime& runtime_;
  const Log& log_;
  bool asynchronous_;  // whether a thread can write while training continues
  CheckpointWriter writer_;
};

}  // namespace causeway

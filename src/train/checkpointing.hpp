#pragma once

#include <array>
#include <functional>
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
#include "src/train/train_settings.hpp"

namespace causeway {

/// What a run starts from.
struct StartingPoint {
  std::optional<Checkpoint> checkpoint;  ///< every file of it looked at; nothing for a fresh start
  bool resumes = false;                  ///< it is gone on with; else its weights alone are taken
  std::vector<std::int64_t> damaged;     ///< steps of newer checkpoints that are not whole
  RunLock lock;                          ///< of the run's folder if that was there, on the first rank
};

/// Finds it as --resume and --init-from say, having cleared away what a crash left in the run's folder. `--resume auto`
/// takes the newest checkpoint that is whole, says of each newer one what is wrong with it, and throws Error(corrupt)
/// where there are checkpoints and none is. Throws Error(usage) where the run has checkpoints beyond the one it would
/// go on from: which of them was the newest could not be told. Collective; what throws is an AgreedError. `beat` is
/// called between pieces of what is read, then and later.
StartingPoint find_starting_point(const TrainSettings& settings, Communicator& world, const Log& log,
                                  const std::function<void()>& beat);

/// The model as the options say it, or as the checkpoint has it where they name none. Collective.
Model::Options model_to_train(const TrainSettings& settings, const StartingPoint& start, Communicator& world);

/// How far a run has come, beside its weights.
struct RunState {
  std::int64_t step = 0, tokens_seen = 0, cursor = 0;  ///< cursor: packs taken of the sequence
  std::int64_t seed = 0;
  double loss = 0;
};
/// What a checkpoint says of it. Error(corrupt) where that, or what it says of the model, is nothing that a run writes.
RunState run_state_of(const Checkpoint& checkpoint);

/// Weights as the checkpoint has them. Collective.
void restore_weights(const Checkpoint& checkpoint, Model& model, Runtime& runtime);
/// The optimizer and all else that goes on from there. Collective; Error(usage) where the settings do not.
RunState restore_run(const Checkpoint& checkpoint, const TrainSettings& settings, const Model& model,
                     const Optimizer& optimizer, Runtime& runtime);

/// A run's checkpoints while it trains: written beside it, announced when they are there, the older ones removed as
/// told.
class RunCheckpoints {
 public:
  /// `damaged`: of StartingPoint.
  RunCheckpoints(const TrainSettings& settings, Runtime& runtime, const Log& log, std::vector<std::int64_t> damaged,
                 CheckpointHook hook);

  /// Copies everything and goes on; waits first for the one before.
  std::optional<PublishedCheckpoint> save(const RunState& state, const Model& model, const Optimizer& optimizer);
  /// What this rank adds to the sum that a step makes anyway, and what the sum of all tells.
  std::array<double, 2> progress() { return writer_.progress(); }
  std::optional<PublishedCheckpoint> advance(std::array<double, 2> sum);
  /// Waits for what is being written.
  std::optional<PublishedCheckpoint> finish();

 private:
  std::optional<PublishedCheckpoint> announced(std::optional<PublishedCheckpoint> published) const;

  const TrainSettings& settings_;
  Runtime& runtime_;
  const Log& log_;
  bool beside_;
  CheckpointWriter writer_;
};

}  // namespace causeway

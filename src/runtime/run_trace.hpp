#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "io/checkpoint/checkpoint_stage.hpp"
#include "kernels/core/trace.hpp"
#include "src/cli/log.hpp"
#include "src/runtime/runtime.hpp"

namespace causeway {

/// Traces some steps of a run on every rank, and writes one file of all ranks. All functions except record_stage() are
/// collective. A file that cannot be written in the end is a warning: it must not end a training.
class RunTrace {
 public:
  struct Options {
    std::string path;  ///< replaced if it exists
    std::int64_t steps = 1;
  };
  /// Throws AgreedError if the file cannot be made.
  RunTrace(const Options& options, Runtime& runtime, const Log& log);
  ~RunTrace() { detach(); }
  RunTrace(const RunTrace&) = delete;
  RunTrace& operator=(const RunTrace&) = delete;

  /// What follows is part of step number `step`, of steps up to `last`. The trace begins with the second step, as the
  /// first one takes longer than all others; or with the only one.
  void before_step(std::int64_t step, std::int64_t last);
  /// Writes the file if it is not written yet.
  void finish();
  /// A stage of this rank's checkpoint begins; the stage before it ends. Any thread, any number of times for a stage.
  void record_stage(CheckpointStage stage);

 private:
  void attach(Trace* trace);
  void detach() { attach(nullptr); }
  double seconds_ahead_of_first_rank();
  void write(const std::string& mine);

  struct Stage {
    CheckpointStage stage;
    Event begin;
  };

  Options options_;
  Runtime& runtime_;
  const Log& log_;
  const Stream host_;  // for events of the host
  std::optional<Trace> trace_;
  std::int64_t first_step_ = 0, last_step_ = 0;  // traced; 0: not known yet
  double ahead_s_ = 0;
  bool done_ = false;
  std::mutex mutex_;  // of the members below, which the thread that writes a checkpoint uses too
  Trace* attached_ = nullptr;
  std::optional<Stage> stage_;
};

}  // namespace causeway

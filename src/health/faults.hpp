#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "io/checkpoint/checkpoint_stage.hpp"
#include "src/health/phase.hpp"

namespace causeway {

enum class FaultKind : std::uint8_t {
  kill,  ///< SIGKILL to the process
  stop,  ///< SIGSTOP
  hang,  ///< the thread sleeps for ever
  exit,  ///< the process ends with 7, without a word to MPI
  fail,  ///< spelled "throw": an exception of no type of ours
  nan,  ///< the first token's output of a layer, or the gradient of that output, becomes NaN; as long as the step lasts
  short_write,  ///< a file of the checkpoint loses its last byte once it has been hashed
  enospc,       ///< from now on the kernel lets no file of the process grow beyond 16 KiB
  bit_flip,     ///< a bit in the middle of a file of the checkpoint changes once it has been hashed
  term,         ///< the process is sent TERM, USR1 or USR2: no failure, but what a scheduler does
  usr1,
  usr2,
};

/// Where a thread of a rank comes to: the training thread to a phase, the thread that writes a checkpoint to a stage.
using FaultPoint = std::variant<Phase, CheckpointStage>;

/// "KIND:step=N[,rank=R][,phase=P][,layer=L]".
struct Fault {
  FaultKind kind = FaultKind::kill;
  std::int64_t step = 0;  ///< 0: before the first
  int rank = 0;
  FaultPoint moment = Phase::forward;  ///< of short_write and bit_flip: the file, by the stage that writes it
  std::optional<std::int64_t> layer;   ///< of forward and backward; not given: whichever comes first
};
/// Throws Error(usage) saying what is expected.
Fault parse_fault(const std::string& text);
/// For --help: the kinds and the moments there are.
std::string fault_kinds_text();
std::string moments_text();

/// What is to go wrong on one rank. Each fault goes off once, at the first place that fits.
class Faults {
 public:
  Faults() = default;
  Faults(std::vector<Fault> own, int rank) : pending_(std::move(own)), rank_(rank) {}

  /// The fault that is due where a thread comes to, which is then no longer pending.
  std::optional<Fault> take(std::int64_t step, FaultPoint moment, std::int64_t layer);
  /// Whether a layer's output (forward), or its gradient (backward), is to be NaN.
  bool poison(std::int64_t step, Phase phase, std::int64_t layer) const;
  /// Lets it happen: may not return, may throw. `path`: the file or folder that a writing thread is about.
  void set_off(const Fault& fault, const std::string& path) const;

 private:
  std::vector<Fault> pending_;
  int rank_ = 0;
};

}  // namespace causeway

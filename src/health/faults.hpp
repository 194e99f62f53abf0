#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "src/health/rank_progress.hpp"

namespace causeway {

enum class FaultKind : std::uint8_t {
  kill,         ///< SIGKILL to the process
  stop,         ///< SIGSTOP to the process
  hang,         ///< the thread sleeps forever
  exit,         ///< the process exits with 7 and does not call MPI_Finalize
  fail,         ///< spelled "throw": throws a std::runtime_error, which is not an Error of the program
  nan,          ///< the first token's output of a layer, or that output's gradient, is NaN in every pack of the step
  short_write,  ///< a file of the checkpoint loses its last byte after it has been hashed
  enospc,       ///< from this point on no file of the process can grow beyond 16 KiB
  bit_flip,     ///< one bit in the middle of a file of the checkpoint changes after it has been hashed
  term,         ///< SIGTERM, SIGUSR1 or SIGUSR2 to the process, as a scheduler sends them; not a failure
  usr1,
  usr2,
};

/// A point at which a fault can occur: a phase of the training thread, or a stage of the thread that writes a
/// checkpoint.
using FaultPoint = decltype(ProgressPoint::at);

/// "KIND:step=N[,rank=R][,phase=P][,layer=L]".
struct Fault {
  FaultKind kind = FaultKind::kill;
  std::int64_t step = 0;  ///< 0: before the first step
  int rank = 0;
  FaultPoint point = Phase::forward;  ///< for short_write and bit_flip: the stage that writes the file to damage
  std::optional<std::int64_t> layer;  ///< for forward and backward; without a value: the first layer reached
};
/// Throws Error(usage) that names what was found and what is expected.
Fault parse_fault(const std::string& text);
/// For --help: the kinds, and the points where a fault can occur.
std::string fault_kinds_text();
std::string fault_points_text();

/// The faults of one rank that have not occurred yet. Each occurs once, at the first matching point. Used by the
/// training thread and by the thread that writes checkpoints.
class Faults {
 public:
  Faults(std::vector<Fault> of_this_rank, int rank) : pending_(std::move(of_this_rank)), rank_(rank) {}

  /// Lets the fault occur that is due at this point, if there is one. May not return, may throw.
  void reach(const ProgressPoint& point);
  /// The fault that is due at this point, which is then no longer pending. Never one of kind nan.
  std::optional<Fault> take(const ProgressPoint& point);

  /// Whether any fault is of kind nan. Those stay pending: they apply to every pack of their step.
  bool has_nan() const;
  /// Whether a layer's output (forward) or that output's gradient (backward) must become NaN.
  bool makes_nan(std::int64_t step, Phase phase, std::int64_t layer) const;

 private:
  void set_off(const Fault& fault, const std::string& path) const;

  mutable std::mutex mutex_;  // of pending_
  std::vector<Fault> pending_;
  int rank_ = 0;
};

}  // namespace causeway

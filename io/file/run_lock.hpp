#pragma once

#include <chrono>
#include <string>

#include "io/file/descriptor.hpp"

namespace causeway {

/// Held by whoever works in a run's folder, through the file `lock` in it, until it goes or its process ends in
/// whatever way: two at once would clear away and publish each other's files. flock(2), which NFS and Lustre pass on;
/// on a file system that has no locks nothing is held.
class RunLock {
 public:
  RunLock() = default;
  /// The folder must be there. Waits up to `patience` for who holds it (a job that is about to end), then throws
  /// Error(usage).
  RunLock(const std::string& run, std::chrono::seconds patience);

  bool asked() const { return asked_; }

 private:
  Descriptor file_;
  bool asked_ = false;
};

}  // namespace causeway

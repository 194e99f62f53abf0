#pragma once

#include <chrono>
#include <string>

#include "io/file/descriptor.hpp"

namespace causeway {

/// A lock on a run's folder (the file `lock` in it), until the object is destroyed or the process ends. Two trainings
/// in one folder would remove and replace each other's files. Uses flock(2), which NFS and Lustre usually support. On a
/// file system without locks the folder is not locked, and warning() says so.
class RunLock {
 public:
  RunLock() = default;
  /// The folder must exist. Waits up to `patience` for another holder (a job that is about to end), then throws
  /// Error(usage).
  RunLock(const std::string& run, std::chrono::seconds patience);

  /// False for a default-constructed object.
  bool asked() const { return asked_; }
  /// Why the folder is not locked although that was asked; "" where it is.
  const std::string& warning() const { return warning_; }

 private:
  Descriptor file_;
  std::string warning_;
  bool asked_ = false;
};

}  // namespace causeway

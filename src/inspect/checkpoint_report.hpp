#pragma once

#include <cstdint>
#include <string>

#include "io/hdf5/hdf5.hpp"

namespace causeway {

/// What `causeway inspect` tells of a checkpoint: its step-N folder, or a run's, whose latest it then is. With `verify`
/// every value is read too; what is damaged or not finite throws Error(corrupt).
std::string describe_checkpoint(const std::string& path, bool verify);

/// A line for each checkpoint of a run, and for `latest`, every file and value of it read: what it holds or what is
/// wrong with it.
struct RunReport {
  std::string text;
  std::int64_t checkpoints = 0, damaged = 0;
};
RunReport verify_run(const std::string& run);

/// An attribute for a reader.
std::string shown(const hdf5::Value& value);

}  // namespace causeway

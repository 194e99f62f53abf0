#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/hdf5/hdf5.hpp"

namespace causeway {

/// What `causeway inspect` prints of a checkpoint, and why no command could use it although it can be read: its tensors
/// are not those of its model.
struct CheckpointDescription {
  std::string text;
  std::optional<Error> refused;
};
/// `path`: a step-N directory, or a run directory, for its latest checkpoint. With `verify` it also reads every value,
/// and throws Error(corrupt) where one is damaged or not finite.
CheckpointDescription describe_checkpoint(const std::string& path, bool verify);

/// One line for each checkpoint of a run and one for `latest`: its content, or the damage found, or why it could not be
/// read or used, which says nothing about damage.
struct RunVerification {
  std::string text;
  std::int64_t checkpoints = 0, damaged = 0;
  std::optional<Error> not_read;  ///< of the first one that could not be read, or that no command could use
};
/// Reads every file and every value of all checkpoints of a run.
RunVerification verify_run(const std::string& run);

/// An attribute as text: numbers shortened, long texts cut, no control characters.
std::string shown(const hdf5::Value& value);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "io/hdf5/hdf5.hpp"

namespace causeway {

/// The text that `causeway inspect` prints of a checkpoint. `path`: a step-N directory, or a run directory, for its
/// latest checkpoint. With `verify` it also reads every value, and throws Error(corrupt) where one is damaged or not
/// finite.
std::string describe_checkpoint(const std::string& path, bool verify);

/// One line for each checkpoint of a run and one for `latest`: its content, or the damage found, or why it could not be
/// read, which says nothing about its content.
struct RunVerification {
  std::string text;
  std::int64_t checkpoints = 0, damaged = 0;
  std::optional<Error> not_read;  ///< of the first one that could not be read
};
/// Reads every file and every value of all checkpoints of a run.
RunVerification verify_run(const std::string& run);

/// An attribute as text: numbers shortened, long texts cut, no control characters.
std::string shown(const hdf5::Value& value);

}  // namespace causeway

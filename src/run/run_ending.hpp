#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/core/error.hpp"

namespace causeway {

/// How an attempt ended.
struct RunEnding {
  ExitCode code = ExitCode::ok;
  std::string reason;
  std::int64_t step = 0;
  std::optional<double> loss = std::nullopt;
  std::vector<std::string> ranks = {};  ///< where each rank was; only the watchdog knows it
};
/// Writes exit.json and the attempt's last line of attempts.jsonl. Any rank that detects the end may call it. Throws
/// Error(io).
void write_ending(const std::string& run, const RunEnding& ending);
/// Writes exit.json for an attempt that `error` ended before its first line of attempts.jsonl. Throws Error(io).
void write_failed_start(const std::string& run, const Error& error);

}  // namespace causeway

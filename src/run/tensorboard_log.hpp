#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "io/results/event_file.hpp"

namespace causeway {

/// A member of a line of metrics.jsonl, and the tag of its curve in TensorBoard.
struct TensorBoardTag {
  const char* member;
  std::string_view tag;
};
std::span<const TensorBoardTag> tensorboard_tags();

/// The figures of a run for TensorBoard, in an event file of each attempt in the run directory.
class TensorBoardLog {
 public:
  /// `resumed_step` more than 0: TensorBoard forgets the values of later steps, which are computed again. Throws
  /// Error(io).
  TensorBoardLog(const std::string& run, std::int64_t resumed_step);

  /// Adds the values of a line of metrics.jsonl that are finite numbers; of a line that amends the last one, only those
  /// of new members. Throws Error(io).
  void add(const nlohmann::ordered_json& line);

 private:
  EventFile file_;
  nlohmann::ordered_json last_;
};

}  // namespace causeway

#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace causeway {

/// metrics.jsonl: one JSON object a line, each with its "step". Complete lines only, whenever the process ends.
class MetricsLog {
 public:
  /// Keeps the lines of steps up to `resumed_step` and drops what an earlier run wrote beyond it, so that a resumed
  /// run's file is that of a run that was never stopped. Throws Error(io).
  MetricsLog(const std::string& path, std::int64_t resumed_step);

  void append(const nlohmann::ordered_json& line);
  /// Puts a longer line in the place of the last one, for what is known only later (a checkpoint's seconds).
  void amend(const nlohmann::ordered_json& line);

 private:
  void write_at(std::int64_t offset, const std::string& text);

  std::string path_;
  std::int64_t last_ = 0, end_ = 0;  // where the last line starts, and the file ends
};

}  // namespace causeway

#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace causeway {

/// metrics.jsonl: a JSON object on each line, with its "step". The file has only complete lines at every moment.
class MetricsLog {
 public:
  /// Keeps the lines of steps up to `resumed_step` and removes later ones, so that the file of a resumed run equals
  /// that of an uninterrupted run. Throws Error(io).
  MetricsLog(const std::string& path, std::int64_t resumed_step);

  void append(const nlohmann::ordered_json& line);
  /// Replaces the last line by one that is not shorter, for values that are known later (seconds of a checkpoint).
  void amend(const nlohmann::ordered_json& line);

 private:
  void write_at(std::int64_t offset, const std::string& text);

  std::string path_;
  std::int64_t last_ = 0, end_ = 0;  // where the last line starts, and the file ends
};

}  // namespace causeway

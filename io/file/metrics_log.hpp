#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace causeway {

/// metrics.jsonl: a JSON object on each line, with its "step". The file has only complete lines at every moment. Users
/// delete, cut and replace it while the run is active: the next line then follows what is there, in a new file if there
/// is none, and `warn` gets a message.
class MetricsLog {
 public:
  using Warn = std::function<void(const std::string&)>;

  /// Keeps the lines of steps up to `resumed_step` and removes later ones, so that the file of a resumed run equals
  /// that of an uninterrupted run. Throws Error(io).
  MetricsLog(std::string path, std::int64_t resumed_step, Warn warn = {});

  /// Both throw Error(io) and leave the file as it was where the line cannot be written.
  void append(const nlohmann::ordered_json& line);
  /// Replaces the last line by one that is not shorter, for values that are known later (seconds of a checkpoint).
  void amend(const nlohmann::ordered_json& line);

 private:
  void write(const nlohmann::ordered_json& line, bool amends);

  std::string path_;
  Warn warn_;
  std::int64_t last_ = 0, end_ = 0;  // where the last line starts, and the file ends
  std::string last_line_;
  std::uint64_t inode_ = 0;
};

}  // namespace causeway

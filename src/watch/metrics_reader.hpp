#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "src/run/regular_file.hpp"
#include "src/watch/history.hpp"

namespace causeway {

/// Reads metrics.jsonl while it is being written, each line once. Only the last line is read again each time, because
/// the run may replace it. Starts again where the file was replaced or has become shorter (a resumed run removes the
/// lines after its step). Skips lines that are invalid or longer than `longest_line`.
class MetricsReader {
 public:
  static constexpr std::int64_t longest_line = std::int64_t{1} << 16;
  /// Bytes: only the end of a larger file is read.
  static constexpr std::int64_t most_read = std::int64_t{1} << 30;

  explicit MetricsReader(std::string path) : path_(std::move(path)) {}

  /// Reads the new lines, for at most about `seconds`.
  void poll(double seconds);

  /// The statistics of all lines read so far.
  History history() const;
  std::int64_t unread_bytes() const { return unread_; }  ///< more than 0 if poll() ran out of time
  /// Seconds since 1970; no value without the file.
  std::optional<double> modified() const { return modified_; }

 private:
  void restart();
  /// Adds the line at `offset`. Returns false if it shows that the file was replaced.
  bool add(std::string_view line, std::int64_t offset);
  /// Continues at `offset`, and skips everything before it.
  void skip_to(std::int64_t offset, bool in_a_line);

  std::string path_;
  std::optional<RegularFile> before_;  // as of the last poll
  History committed_;                  // all but the last line
  std::optional<StepRecord> last_;
  std::string last_text_;
  std::int64_t offset_ = 0;  // where the last line starts, or where the next one will
  bool skipping_ = false;    // offset_ is within a line that is skipped
  std::int64_t unread_ = 0;
  std::optional<double> modified_;
};

}  // namespace causeway

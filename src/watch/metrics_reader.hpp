#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "src/run/regular_file.hpp"
#include "src/watch/history.hpp"

namespace causeway {

/// Follows metrics.jsonl while it is written, and reads each line once. The last line is looked at again each time: it
/// is amended in place. Where the file is replaced or has become shorter (a resumed run drops the lines beyond its
/// step) it starts again. Lines that are none, and those longer than `longest_line`, are passed over.
class MetricsReader {
 public:
  static constexpr std::int64_t longest_line = std::int64_t{1} << 16;
  /// Of a larger file only its end is read.
  static constexpr std::int64_t most_read = std::int64_t{1} << 30;

  explicit MetricsReader(std::string path) : path_(std::move(path)) {}

  /// Reads what is new, for at most about `seconds`.
  void poll(double seconds);

  /// Of all lines up to now.
  History history() const;
  std::int64_t unread_bytes() const { return unread_; }  ///< where poll() ran out of time
  /// Seconds since 1970; nothing where there is no file.
  std::optional<double> modified() const { return modified_; }

 private:
  void restart();
  /// False where the line says that the file is another one.
  bool take(std::string_view line, std::int64_t offset);
  /// Goes on at `offset`, what is before it done with.
  void pass_over(std::int64_t offset, bool in_a_line);

  std::string path_;
  std::optional<RegularFile> before_;  // as of the last poll
  History committed_;                  // all but the last line
  std::optional<StepRecord> last_;
  std::string last_text_;
  std::int64_t offset_ = 0;  // where the last line starts, or where the next one will
  bool skipping_ = false;    // offset_ is in the middle of a line to be passed over
  std::int64_t unread_ = 0;
  std::optional<double> modified_;
};

}  // namespace causeway

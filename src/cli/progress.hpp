#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace causeway {

/// The progress of a long command, on standard error: a bar on a terminal, a line every few seconds elsewhere (a log).
/// The first rank shows it; on the others `shown` is false.
class Progress {
 public:
  /// `total` is counted in `unit` ("tokens"); 0: not known.
  Progress(std::string title, std::int64_t total, std::string unit, bool shown = true);
  ~Progress();  ///< ends the line of the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` so far, with a short note ("loss 1.35").
  void update(std::int64_t done, std::string_view note = {});
  /// Shows the final state.
  void finish(std::string_view note = {});

 private:
  using Clock = std::chrono::steady_clock;
  void draw(std::string_view note, bool last);

  std::string title_;
  std::int64_t total_;
  std::string unit_;
  bool shown_, terminal_;
  bool open_ = false;  ///< the cursor is at the end of a bar
  std::int64_t done_ = 0;
  Clock::time_point started_, drawn_;
};

/// A line for a log: "import: 12 of 40 files (30 %), 3.1 files/s, 9 s left".
std::string progress_line(std::string_view title, std::int64_t done, std::int64_t total, std::string_view unit,
                          double seconds, std::string_view note);
/// A bar for a terminal of `width` columns.
std::string progress_bar(std::string_view title, std::int64_t done, std::int64_t total, std::string_view unit,
                         double seconds, std::string_view note, int width);

}  // namespace causeway

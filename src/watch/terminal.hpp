#pragma once

#include <termios.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace causeway {

struct TerminalSize {
  int columns = 80, rows = 24;
};
/// The size of standard output's terminal; 80 × 24 where it is unknown.
TerminalSize terminal_size();

/// Whether standard output is a terminal on which the cursor can be moved.
bool can_redraw();
/// Whether the locale's characters are UTF-8.
bool locale_is_utf8();

/// A screen of lines on standard output, redrawn in place. While the object exists, the terminal shows its alternate
/// screen without a cursor, and keys are not echoed; the destructor restores the terminal. Uses only ANSI sequences
/// that every terminal since the VT100 and xterm understands. A frame is one write of the lines that changed.
class Screen {
 public:
  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  /// Throws Error(io) where writing to the terminal fails.
  void draw(const std::vector<std::string>& lines);
  /// Waits at most `seconds` for a key. Ctrl-Z suspends the program, as usual.
  std::optional<char> key(double seconds);

 private:
  void enter();
  void leave() noexcept;

  std::optional<termios> before_;  // the keyboard's settings before; no value where standard input is not a terminal
  std::vector<std::string> shown_;
  TerminalSize size_;
  bool whole_ = true;  // the next frame is drawn completely
};

}  // namespace causeway

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
/// Of standard output; 80 × 24 where it does not say.
TerminalSize terminal_size();

/// Whether standard output is a terminal on which the cursor can be moved.
bool can_redraw();
/// Whether the locale's characters are UTF-8.
bool locale_is_utf8();

/// A screen of lines on standard output, redrawn in place. While it lives the terminal shows its alternate screen,
/// without a cursor, and keys come unechoed; afterwards it is as it was before. Plain ANSI sequences, which every
/// terminal since the VT100 and xterm understands; a frame is one write, of the lines that changed alone.
class Screen {
 public:
  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  /// Throws Error(io) where the terminal is gone.
  void draw(const std::vector<std::string>& lines);
  /// Waits at most `seconds` for a key. Ctrl-Z suspends the program, as everywhere.
  std::optional<char> key(double seconds);

 private:
  void enter();
  void leave() noexcept;

  std::optional<termios> before_;  // what the keyboard was set to; nothing where it is none
  std::vector<std::string> shown_;
  TerminalSize size_;
  bool whole_ = true;  // the next frame is drawn anew
};

}  // namespace causeway

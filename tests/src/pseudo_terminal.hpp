#pragma once

#include <sys/types.h>
#include <termios.h>

#include <string>

namespace causeway::test {

/// A program on a terminal of its own, and what it wrote there.
class PseudoTerminal {
 public:
  /// Starts a shell command (see expanded()) with TERM=`term` on a terminal of this size. TERM, LC_ALL and NO_COLOR of
  /// the test do not reach it.
  PseudoTerminal(const std::string& command, int columns, int rows, const std::string& term = "xterm");
  ~PseudoTerminal();
  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;

  /// Everything written up to now that `text` is in; false where it has not come within 60 s, or the program has ended
  /// without.
  bool shows(const std::string& text);
  /// Forgets what was written, so that shows() means what comes.
  void forget() { written_.clear(); }
  void type(const std::string& keys);
  void resize(int columns, int rows);
  void signal(int number);
  /// Reads all there still is and returns the exit code, or 128 and the signal it died of.
  int wait();
  const std::string& written() const { return written_; }
  termios mode() const;

 private:
  bool read_more();

  int terminal_ = -1;
  pid_t child_ = -1;
  std::string written_;
};

}  // namespace causeway::test

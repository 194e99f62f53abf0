#pragma once

#include <sys/types.h>
#include <termios.h>

#include <string>

namespace causeway::test {

/// A program on its own terminal, and the text that it wrote there.
class PseudoTerminal {
 public:
  /// Starts a shell command (see expanded()) with TERM=`term` on a terminal of this size. TERM, LC_ALL and NO_COLOR of
  /// the test are removed from its environment.
  PseudoTerminal(const std::string& command, int columns, int rows, const std::string& term = "xterm");
  ~PseudoTerminal();
  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;

  /// Waits until the program has written `text`; false if it has not within 60 s, or has ended without it.
  bool shows(const std::string& text);
  /// Forgets what was written: shows() then refers to later text.
  void forget() { written_.clear(); }
  void type(const std::string& keys);
  void resize(int columns, int rows);
  void signal(int number);
  /// Reads the remaining text and returns the exit code, or 128 plus the signal that ended the program.
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

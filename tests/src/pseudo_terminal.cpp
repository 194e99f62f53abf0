#include "tests/src/pseudo_terminal.hpp"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>

#include "tests/src/shell.hpp"

namespace causeway::test {

PseudoTerminal::PseudoTerminal(const std::string& command, int columns, int rows, const std::string& term) {
  const std::string script = "exec " + expanded(command);  // so that signals reach the program itself
  winsize size{.ws_row = static_cast<unsigned short>(rows), .ws_col = static_cast<unsigned short>(columns)};
  child_ = ::forkpty(&terminal_, nullptr, nullptr, &size);
  if (child_ < 0) throw std::runtime_error("cannot make a pseudo-terminal");
  if (child_ == 0) {
    ::setenv("TERM", term.c_str(), 1);
    ::setenv("LC_ALL", "C.UTF-8", 1);
    ::unsetenv("NO_COLOR");
    ::execl("/bin/sh", "sh", "-c", script.c_str(), nullptr);
    ::_exit(127);
  }
}

PseudoTerminal::~PseudoTerminal() {
  if (child_ > 0) {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  ::close(terminal_);
}

bool PseudoTerminal::read_more() {
  pollfd in{.fd = terminal_, .events = POLLIN};
  if (::poll(&in, 1, 60'000) <= 0) return false;
  char block[4096];
  const ssize_t got = ::read(terminal_, block, sizeof block);
  if (got <= 0) return false;  // EIO: no process has the terminal open
  written_.append(block, static_cast<std::size_t>(got));
  return true;
}

bool PseudoTerminal::shows(const std::string& text) {
  const auto started = std::chrono::steady_clock::now();
  while (written_.find(text) == std::string::npos)
    if (std::chrono::steady_clock::now() - started > std::chrono::seconds(60) || !read_more()) return false;
  return true;
}

void PseudoTerminal::type(const std::string& keys) {
  if (::write(terminal_, keys.data(), keys.size()) != std::ssize(keys)) throw std::runtime_error("cannot type");
}

void PseudoTerminal::resize(int columns, int rows) {
  const winsize size{.ws_row = static_cast<unsigned short>(rows), .ws_col = static_cast<unsigned short>(columns)};
  ::ioctl(terminal_, TIOCSWINSZ, &size);
}

void PseudoTerminal::signal(int number) { ::kill(child_, number); }

int PseudoTerminal::wait() {
  while (read_more()) {
  }
  int status = 0;
  ::waitpid(child_, &status, 0);
  child_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

termios PseudoTerminal::mode() const {
  termios mode{};
  ::tcgetattr(terminal_, &mode);
  return mode;
}

}  // namespace causeway::test

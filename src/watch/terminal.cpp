#include "src/watch/terminal.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "io/file/descriptor.hpp"
#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::string_view enter_sequence = "\033[?1049h\033[?25l\033[H\033[2J";  // alternate screen, no cursor, empty
constexpr std::string_view leave_sequence = "\033[0m\033[?25h\033[?1049l";
constexpr char control_z = 26;

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

TerminalSize terminal_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return {};
  return {.columns = size.ws_col, .rows = size.ws_row};
}

bool can_redraw() { return ::isatty(STDOUT_FILENO) == 1 && !variable("TERM").empty() && variable("TERM") != "dumb"; }

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    std::string value(variable(name));
    if (value.empty()) continue;  // the first one set decides
    std::ranges::transform(value, value.begin(), [](unsigned char c) { return std::tolower(c); });
    return value.find("utf-8") != std::string::npos || value.find("utf8") != std::string::npos;
  }
  return false;
}

Screen::Screen() {
  termios now{};
  if (::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &now) == 0) before_ = now;
  enter();
}

Screen::~Screen() { leave(); }

void Screen::enter() {
  if (before_) {
    termios keys = *before_;
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    keys.c_cc[VMIN] = 0;
    keys.c_cc[VTIME] = 0;
    keys.c_cc[VSUSP] =
        _POSIX_VDISABLE;  // Ctrl-Z is then read as a key, and the screen is restored before the program stops
    ::tcsetattr(STDIN_FILENO, TCSANOW, &keys);
  }
  write_all(STDOUT_FILENO, enter_sequence);
  whole_ = true;
}

void Screen::leave() noexcept {
  write_all(STDOUT_FILENO, leave_sequence);
  if (before_) ::tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
}

void Screen::draw(const std::vector<std::string>& lines) {
  const TerminalSize size = terminal_size();
  whole_ = whole_ || size.columns != size_.columns || size.rows != size_.rows;
  std::string text;
  if (whole_) {
    text += "\033[2J";
    shown_.clear();
  }
  for (std::size_t row = 0; row < std::max(lines.size(), shown_.size()); ++row) {
    const std::string_view line = row < lines.size() ? std::string_view(lines[row]) : "";
    if (row < shown_.size() ? line == shown_[row] : line.empty()) continue;
    text += fmt::format("\033[{};1H\033[2K{}", row + 1, line);
  }
  if (!write_all(STDOUT_FILENO, text)) fail(ExitCode::io, "cannot write to the terminal: {}", std::strerror(errno));
  shown_ = lines;
  size_ = size;
  whole_ = false;
}

std::optional<char> Screen::key(double seconds) {
  pollfd in{.fd = before_ ? STDIN_FILENO : -1, .events = POLLIN};
  const int answered = ::poll(&in, 1, static_cast<int>(std::lround(std::max(seconds, 0.0) * 1000)));
  if (answered <= 0) return std::nullopt;
  char key = 0;
  if (::read(STDIN_FILENO, &key, 1) != 1) {
    before_.reset();  // no more keys will come
    return std::nullopt;
  }
  if (key != control_z) return key;
  leave();
  ::raise(SIGTSTP);
  enter();
  return std::nullopt;
}

}  // namespace causeway

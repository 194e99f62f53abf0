#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace causeway {

std::string host_name();

/// `text` as one line that is safe to print: text from a file or an option may be long and contain control characters.
std::string one_line(std::string_view text);

/// Messages on standard error. Only the first rank prints information; every rank prints warnings, the others with
/// their rank and host.
class Log {
 public:
  explicit Log(int rank = 0) : rank_(rank), host_(host_name()) {}

  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    if (rank_ == 0) write(fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) const {
    const std::string text = one_line(fmt::format(format, std::forward<Args>(args)...));
    write(rank_ == 0 ? fmt::format("warning: {}", text) : fmt::format("rank {} ({}): warning: {}", rank_, host_, text));
  }
  bool speaks() const { return rank_ == 0; }

 private:
  static void write(std::string_view line);

  int rank_;
  std::string host_;
};

}  // namespace causeway

#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "src/output/safe_text.hpp"

namespace causeway {

std::string host_name();

/// Messages on standard error, one line each. Only the first rank prints information; every rank prints warnings, the
/// others with their rank and host.
class Log {
 public:
  explicit Log(int rank = 0) : rank_(rank), host_(host_name()) {}

  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    if (rank_ == 0) write(one_line(fmt::format(format, std::forward<Args>(args)...)));
  }
  /// Information of several lines.
  void paragraph(std::string_view text) const {
    if (rank_ == 0) write(safe_lines(text));
  }
  template <class... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) const {
    const std::string text = one_line(fmt::format(format, std::forward<Args>(args)...));
    write(rank_ == 0 ? fmt::format("warning: {}", text) : fmt::format("rank {} ({}): warning: {}", rank_, host_, text));
  }
  bool prints() const { return rank_ == 0; }  ///< whether info() prints

 private:
  static void write(std::string_view line);

  int rank_;
  std::string host_;
};

}  // namespace causeway

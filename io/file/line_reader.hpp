#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/gzip_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

/// A line, or as much of one as is in memory: a genome without a newline passes through in many parts.
struct LinePart {
  std::string_view text;  ///< without the end of line; valid until the next call
  bool first = false;     ///< starts its line
  bool last = false;      ///< ends it
};

/// Reads a file, gzip-compressed or not, in bounded memory. Lines end with LF or CR LF; the last one may lack its end.
/// Throws Error(usage) where the file is missing, a folder, or damaged or cut off gzip.
class LineReader {
 public:
  /// `on_read` is told after every read how many bytes of the file (compressed ones, where it is compressed) are done.
  /// It holds `buffer_bytes` of the file at a time, at least two.
  explicit LineReader(std::string path, std::function<void(std::int64_t)> on_read = {},
                      std::size_t buffer_bytes = 256 << 10);

  const std::string& path() const { return path_; }
  std::string file_name() const;               ///< the path's last part
  std::int64_t line() const { return line_; }  ///< of the last part, from 1

  std::optional<LinePart> next();
  /// The bytes as they are, line ends included; empty at the end. Not to be mixed with next().
  std::string_view next_bytes();

  /// Throws Error(usage): "file:line: …".
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ExitCode::usage, "{}:{}: {}", path_, line_, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  bool fill();

  std::string path_;
  std::function<void(std::int64_t)> on_read_;
  GzipFile file_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  ///< what of the buffer is still to be given
  bool ended_ = false, inside_line_ = false;
  std::int64_t line_ = 0;
};

/// How an error shows a byte: 'A', or "byte 0x07".
std::string shown(char byte);

}  // namespace causeway

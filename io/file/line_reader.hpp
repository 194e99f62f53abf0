#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/compression/compressed_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

/// What is wrong in one record of a file: the records that follow may be good.
class RecordError : public Error {
 public:
  explicit RecordError(const std::string& what) : Error(ExitCode::usage, what) {}
};

/// A line, or a part of a long one. A genome without line ends comes in many parts, so that memory stays bounded.
struct LinePart {
  std::string_view text;  ///< without the line end; valid until the next call
  bool first = false;     ///< starts its line
  bool last = false;      ///< ends it
};

/// Reads the lines of a file, compressed or not (io/file/compression/compressed_file.hpp), in bounded memory. A line
/// ends with LF, CR LF or CR, whatever the other lines end with; the last line may lack its line end. A byte order mark
/// of UTF-8 at the start is skipped. Throws Error(usage) for a missing file, a folder, damaged or truncated
/// compression, and text that starts with a byte order mark of UTF-16 or UTF-32.
class LineReader {
 public:
  /// `on_read` gets the bytes of the file (compressed bytes of a compressed file) read so far, after every read.
  /// `buffer_bytes`: of the buffer, at least four.
  /// `path` "-" is standard input.
  explicit LineReader(const std::string& path, std::function<void(std::int64_t)> on_read = {},
                      std::size_t buffer_bytes = 256 << 10);

  const std::string& path() const { return path_; }  ///< for messages
  std::string file_name() const;                     ///< the last part of the path; "stdin" for standard input
  std::int64_t line() const { return line_; }        ///< number of the line of the last part, from 1

  std::optional<LinePart> next();
  /// The next bytes, line ends included; empty at the end. Do not mix with next().
  std::string_view next_bytes();

  /// Throws RecordError: "file:line: …".
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    throw RecordError(fmt::format("{}:{}: {}", path_, line_, fmt::format(format, std::forward<Args>(args)...)));
  }

 private:
  bool fill();
  void skip_byte_order_mark();

  std::string path_;
  std::function<void(std::int64_t)> on_read_;
  CompressedFile file_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  ///< the part of the buffer not returned yet
  bool started_ = false, ended_ = false, inside_line_ = false;
  bool after_return_ = false;  ///< the byte before begin_ is a CR that ended a line: a LF here belongs to it
  std::int64_t line_ = 0;
};

/// How an error shows a byte: 'A', or "byte 0x07".
std::string shown(char byte);

}  // namespace causeway

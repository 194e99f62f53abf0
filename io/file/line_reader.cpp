#include "io/file/line_reader.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "io/file/look_up.hpp"

namespace causeway {
namespace {

const std::string& checked(const std::string& path) {
  if (path == standard_input) return path;
  require_file(path);
  return path;
}

}  // namespace

LineReader::LineReader(const std::string& path, std::function<void(std::int64_t)> on_read, std::size_t buffer_bytes)
    : path_(path == standard_input ? "standard input" : path),
      on_read_(std::move(on_read)),
      file_(checked(path), buffer_bytes),
      buffer_(std::max<std::size_t>(buffer_bytes, 4)) {}

std::string LineReader::file_name() const {
  return file_.is_standard_input() ? "stdin" : std::filesystem::path(path_).filename().string();
}

/// Moves the bytes not returned yet to the front of the buffer and reads more bytes after them; false at the end of the
/// file.
bool LineReader::fill() {
  if (ended_) return false;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  const std::size_t count = file_.read(std::span(buffer_).subspan(end_));
  if (on_read_) on_read_(file_.offset());
  ended_ = count == 0;
  end_ += count;
  if (!started_) skip_byte_order_mark();
  return !ended_;
}

/// The first part of the buffer is filled.
void LineReader::skip_byte_order_mark() {
  using namespace std::string_view_literals;
  started_ = true;
  const std::string_view held(buffer_.data(), end_);
  for (const std::string_view mark : {"\xff\xfe"sv, "\xfe\xff"sv, "\0\0\xfe\xff"sv})
    require(
        !held.starts_with(mark),
        "{}: is UTF-16 or UTF-32 text by its first bytes, expected UTF-8; convert it with: iconv -f UTF-16 -t UTF-8",
        path_);
  if (held.starts_with("\xef\xbb\xbf"sv)) begin_ = 3;
}

std::optional<LinePart> LineReader::next() {
  while (begin_ == end_ && fill()) {
  }
  // The line feed of a CR LF may come after the buffer's end. It is skipped here, so that a line is complete at its
  // carriage return.
  if (after_return_ && begin_ < end_) {
    after_return_ = false;
    if (buffer_[begin_] == '\n') {
      ++begin_;
      return next();
    }
  }
  if (begin_ == end_) {
    if (!inside_line_) return std::nullopt;
    inside_line_ = false;
    return LinePart{{}, false, true};
  }
  LinePart part{.first = !inside_line_};
  if (part.first) ++line_;
  const std::string_view held(buffer_.data() + begin_, end_ - begin_);
  const auto end = std::find_if(held.begin(), held.end(), [](char byte) { return byte == '\n' || byte == '\r'; });
  part.text = held.substr(0, static_cast<std::size_t>(end - held.begin()));
  begin_ += part.text.size();
  if (end != held.end()) {
    after_return_ = *end == '\r';
    ++begin_;
  }
  part.last = end != held.end() || ended_;
  inside_line_ = !part.last;
  return part;
}

std::string_view LineReader::next_bytes() {
  begin_ = end_;
  fill();
  return {buffer_.data() + begin_, end_ - begin_};
}

std::string shown(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  return code >= 0x20 && code < 0x7f ? fmt::format("'{}'", byte) : fmt::format("byte 0x{:02x}", code);
}

}  // namespace causeway

#include "io/line_reader.hpp"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace causeway {
namespace {

constexpr std::size_t buffer_bytes = 256 << 10;

bool ends_with_gz(std::string_view path) { return path.ends_with(".gz") || path.ends_with(".GZ"); }

}  // namespace

void GzipTraits::close(type file) noexcept { gzclose_r(file); }

LineReader::LineReader(std::string path, std::function<void(std::int64_t)> on_read) : path_(std::move(path)), on_read_(std::move(on_read)), buffer_(buffer_bytes) {
  std::error_code error;
  const auto status = std::filesystem::status(path_, error);
  require(std::filesystem::exists(status), "{}: no such file", path_);
  require(!std::filesystem::is_directory(status), "{}: is a folder, expected a file", path_);
  errno = 0;
  file_ = Handle<GzipTraits>(gzopen(path_.c_str(), "rb"));
  if (!file_) fail(ExitCode::io, "{}: cannot open: {}", path_, std::strerror(errno));
  gzbuffer(file_.get(), buffer_bytes);
}

std::string LineReader::file_name() const { return std::filesystem::path(path_).filename().string(); }

/// Reads behind what is still to be given, which it moves to the front; false at the end of the file.
bool LineReader::fill() {
  if (ended_) return false;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  const int count = gzread(file_.get(), buffer_.data() + end_, static_cast<unsigned>(buffer_.size() - end_));
  int code = Z_OK;
  const char* reason = gzerror(file_.get(), &code);
  if (code == Z_ERRNO) fail(ExitCode::io, "{}: cannot read: {}", path_, std::strerror(errno));
  require(code != Z_BUF_ERROR, "{}: compressed data ends too early", path_);
  require(code == Z_OK || code == Z_STREAM_END, "{}: is damaged gzip: {}", path_, reason);
  require(!(ends_with_gz(path_) && count > 0 && gzdirect(file_.get()) == 1), "{}: is not gzip, expected it by its name", path_);
  if (on_read_) on_read_(gzoffset(file_.get()));
  ended_ = count <= 0;
  end_ += static_cast<std::size_t>(std::max(count, 0));
  return !ended_;
}

std::optional<LinePart> LineReader::next() {
  // A carriage return at the end of what is in memory may belong to a line end of which the rest is not.
  const auto undecided = [this] { return begin_ == end_ || (end_ - begin_ == 1 && buffer_[begin_] == '\r'); };
  while (undecided() && fill()) {
  }
  if (begin_ == end_) {
    if (!inside_line_) return std::nullopt;
    inside_line_ = false;
    return LinePart{{}, false, true};
  }
  LinePart part{.first = !inside_line_};
  if (part.first) ++line_;
  const std::string_view held(buffer_.data() + begin_, end_ - begin_);
  const std::size_t newline = held.find('\n');
  part.last = newline != held.npos || ended_;
  std::size_t taken = held.size();
  if (newline != held.npos) {
    part.text = held.substr(0, newline);
    taken = newline + 1;
  } else {
    part.text = held;
    if (!ended_ && part.text.ends_with('\r')) {
      part.text.remove_suffix(1);
      --taken;
    }
  }
  if (part.last && part.text.ends_with('\r')) part.text.remove_suffix(1);
  begin_ += taken;
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

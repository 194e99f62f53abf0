#include "io/file/gzip_file.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr int gzip_window_bits = 15 + 16;  // zlib: 16 more for the gzip format only
constexpr unsigned char magic[] = {0x1f, 0x8b};

/// A copy of standard input's descriptor, not /dev/stdin: that cannot be opened where it is a socket, and starts a file
/// again at its first byte.
int open_to_read(const std::string& path) {
  constexpr int lowest = 3;
  return path == standard_input ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, lowest)
                                : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
}

}  // namespace

void GzipFile::InflateEnd::operator()(z_stream_s* stream) const noexcept {
  inflateEnd(stream);
  delete stream;
}

GzipFile::GzipFile(const std::string& path, std::size_t buffer_bytes)
    : path_(path == standard_input ? "standard input" : path),
      is_standard_input_(path == standard_input),
      file_(open_to_read(path)),
      buffer_(std::max(buffer_bytes, std::size(magic))),
      unused_(buffer_.data(), 0) {
  if (!file_) fail(ExitCode::io, "{}: cannot open: {}", path_, std::strerror(errno));
  while (unused_.size() < std::size(magic) && fill()) {
  }
  if (unused_.size() < std::size(magic) || !std::equal(std::begin(magic), std::end(magic), unused_.begin())) return;
  auto stream = std::make_unique<z_stream>();
  if (inflateInit2(stream.get(), gzip_window_bits) != Z_OK) throw std::bad_alloc();
  stream_.reset(stream.release());
}

GzipFile::~GzipFile() = default;

/// Moves the unused bytes to the front of the buffer and reads more bytes after them; false at the end of the file.
bool GzipFile::fill() {
  std::memmove(buffer_.data(), unused_.data(), unused_.size());
  ssize_t count = 0;
  do count = ::read(file_.get(), buffer_.data() + unused_.size(), buffer_.size() - unused_.size());
  while (count < 0 && errno == EINTR);
  if (count < 0) fail(ExitCode::io, "{}: cannot read: {}", path_, std::strerror(errno));
  unused_ = {buffer_.data(), unused_.size() + static_cast<std::size_t>(count)};
  offset_ += count;
  return count > 0;
}

std::size_t GzipFile::read(std::span<char> out) {
  std::size_t done = 0;
  while (done < out.size() && !ended_) {
    if (unused_.empty() && !fill()) {
      require(!compressed() || !inside_member_, "{}: the file ends within its compressed data", path_);
      ended_ = true;
    } else if (compressed()) {
      done += inflate_into(out.subspan(done));
    } else {
      const std::size_t count = std::min(unused_.size(), out.size() - done);
      std::memcpy(out.data() + done, unused_.data(), count);
      unused_ = unused_.subspan(count);
      done += count;
    }
  }
  return done;
}

/// Inflates some of the unused bytes, of which there is at least one. Returns the bytes written to `out`.
std::size_t GzipFile::inflate_into(std::span<char> out) {
  if (!inside_member_) {
    if (unused_.front() == 0) {
      skip_padding();
      return 0;
    }
    require(unused_.front() == magic[0], "{}: is damaged gzip: other bytes follow its compressed data", path_);
    inflateReset(stream_.get());
    inside_member_ = true;
  }
  z_stream& stream = *stream_;
  stream.next_in = unused_.data();
  stream.avail_in = static_cast<uInt>(unused_.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(std::min<std::size_t>(out.size(), std::size_t{1} << 30));
  const uInt available = stream.avail_out;
  const int outcome = inflate(&stream, Z_NO_FLUSH);
  if (outcome == Z_MEM_ERROR) throw std::bad_alloc();
  require(outcome == Z_OK || outcome == Z_STREAM_END, "{}: is damaged gzip: {}", path_,
          stream.msg == nullptr ? "it needs a preset dictionary" : stream.msg);
  unused_ = unused_.last(stream.avail_in);
  inside_member_ = outcome != Z_STREAM_END;
  return available - stream.avail_out;
}

void GzipFile::skip_padding() {
  do {
    const auto other = std::find_if(unused_.begin(), unused_.end(), [](unsigned char byte) { return byte != 0; });
    require(other == unused_.end(), "{}: is damaged gzip: other bytes follow its compressed data", path_);
    unused_ = unused_.last(0);
  } while (fill());
}

}  // namespace causeway

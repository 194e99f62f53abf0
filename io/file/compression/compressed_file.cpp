#include "io/file/compression/compressed_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// A copy of standard input's descriptor, not /dev/stdin: that cannot be opened where it is a socket, and starts a file
/// again at its first byte.
int open_to_read(const std::string& path) {
  constexpr int lowest = 3;
  return path == standard_input ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, lowest)
                                : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
}

std::string_view text_of(std::span<const unsigned char> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

CompressedFile::CompressedFile(const std::string& path, std::size_t buffer_bytes)
    : path_(path == standard_input ? "standard input" : path),
      is_standard_input_(path == standard_input),
      file_(open_to_read(path)),
      buffer_(std::max(buffer_bytes, compression_magic_bytes)),
      unused_(buffer_.data(), 0) {
  if (!file_) fail(ExitCode::io, "{}: cannot open: {}", path_, std::strerror(errno));
  while (unused_.size() < compression_magic_bytes && fill()) {
  }
  compression_ = compression_of_bytes(text_of(unused_));
  const Compression* const named = is_standard_input_ ? nullptr : compression_of_name(path_);
  if (named != nullptr && compression_ == nullptr) {
    const std::string ending = path_.substr(path_.rfind('.'));
    require(!unused_.empty(), "{}: is empty, but its name ends with {}, and {} writes no empty file", path_, ending,
            named->name);
    fail(ExitCode::usage, "{}: is not {}, but its name ends with {}", path_, named->name, ending);
  }
  if (compression_ != nullptr) open_decompressor();
}

void CompressedFile::open_decompressor() {
  require(compression_->open != nullptr,
          "{}: is compressed with {}, but this causeway was built without {}; install that and configure the build "
          "again, or decompress the file with {}",
          path_, compression_->name, compression_->library, compression_->command);
  decompressor_ = compression_->open();
  decompressor_->begin();
  inside_member_ = true;
}

/// Moves the unused bytes to the front of the buffer and reads more bytes after them; false at the end of the file.
bool CompressedFile::fill() {
  std::memmove(buffer_.data(), unused_.data(), unused_.size());
  ssize_t count = 0;
  do count = ::read(file_.get(), buffer_.data() + unused_.size(), buffer_.size() - unused_.size());
  while (count < 0 && errno == EINTR);
  if (count < 0) fail(ExitCode::io, "{}: cannot read: {}", path_, std::strerror(errno));
  unused_ = {buffer_.data(), unused_.size() + static_cast<std::size_t>(count)};
  offset_ += count;
  return count > 0;
}

std::size_t CompressedFile::read(std::span<char> out) {
  std::size_t done = 0;
  while (done < out.size() && !ended_) {
    if (compressed()) {
      if (!inside_member_) begin_member();
      if (!ended_) done += decompress_into(out.subspan(done));
    } else if (unused_.empty() && !fill()) {
      ended_ = true;
    } else {
      const std::size_t count = std::min(unused_.size(), out.size() - done);
      std::memcpy(out.data() + done, unused_.data(), count);
      unused_ = unused_.subspan(count);
      done += count;
    }
  }
  return done;
}

/// What follows a member: the next one, padding, or the end of the file.
void CompressedFile::begin_member() {
  std::size_t padding = 0;
  while (!unused_.empty() || fill()) {
    const auto other = std::ranges::find_if(unused_, [](unsigned char byte) { return byte != 0; });
    padding += static_cast<std::size_t>(other - unused_.begin());
    unused_ = unused_.last(static_cast<std::size_t>(unused_.end() - other));
    if (!unused_.empty()) break;
  }
  const std::size_t multiple = compression_->padding;
  const bool allowed = padding == 0 || (multiple > 0 && padding % multiple == 0);
  while (allowed && !unused_.empty() && unused_.size() < compression_magic_bytes && fill()) {
  }
  ended_ = unused_.empty();
  require(allowed && (ended_ || compression_of_bytes(text_of(unused_)) == compression_),
          "{}: is damaged {}: other bytes follow its compressed data", path_, compression_->name);
  if (ended_) return;
  decompressor_->begin();
  inside_member_ = true;
}

/// Returns the bytes written to `out`, which is not empty.
std::size_t CompressedFile::decompress_into(std::span<char> out) {
  const bool more = !unused_.empty() || fill();
  Decompressor::Step step;
  try {
    constexpr std::size_t most = Decompressor::most_bytes;
    step = decompressor_->step(unused_.first(std::min(unused_.size(), most)), out.first(std::min(out.size(), most)));
  } catch (const Error& error) {
    fail(error.code(), "{}: {}", path_, error.what());
  }
  unused_ = unused_.subspan(step.consumed);
  inside_member_ = !step.ended;
  // At the end of the file a step may still write what the decompressor holds.
  if (step.consumed == 0 && step.produced == 0 && !step.ended) {
    require(more, "{}: the file ends within its compressed data", path_);
    fail(ExitCode::usage, "{}: is damaged {}: its data cannot be decompressed further", path_, compression_->name);
  }
  return step.produced;
}

}  // namespace causeway

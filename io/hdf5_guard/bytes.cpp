#include "io/hdf5_guard/bytes.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/hdf5_guard/checksum.hpp"

namespace causeway::hdf5_guard {

std::uint64_t FieldReader::number(std::size_t size) {
  std::uint64_t value = 0;
  const auto bytes = take(size);
  for (std::size_t i = 0; i < size; ++i) value |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

std::span<const std::byte> FieldReader::take(std::size_t count) {
  location_.require(count <= left(), "a structure of {} bytes is too short: {} more bytes expected at byte {}",
                    bytes_.size(), count, at_);
  const auto taken = bytes_.subspan(at_, count);
  at_ += count;
  return taken;
}

std::string_view FieldReader::text() {
  const auto rest = bytes_.subspan(at_);
  const auto end = std::find(rest.begin(), rest.end(), std::byte{0});
  location_.require(end != rest.end(), "a name has no NUL at its end");
  const auto taken = take(static_cast<std::size_t>(end - rest.begin()) + 1);
  return {reinterpret_cast<const char*>(taken.data()), taken.size() - 1};
}

void FieldReader::signature(std::string_view expected) {
  const std::size_t before = at_;
  location_.require(std::memcmp(take(expected.size()).data(), expected.data(), expected.size()) == 0,
                    "expected signature '{}' at byte {} of a structure", expected, before);
}

void FieldReader::checksum() {
  const std::uint32_t expected = metadata_checksum(bytes_.first(at_));
  const std::uint64_t found = number(4);
  location_.require(found == expected, "a structure has checksum {:08x}, expected {:08x}", expected, found);
}

void FileTraits::close(type file) noexcept { ::close(file); }

FileBytes::FileBytes(const std::string& path) : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  struct stat status {};
  if (!file_) fail_to("open");
  if (::fstat(file_.get(), &status) < 0) fail_to("read its size");
  size_ = static_cast<std::uint64_t>(status.st_size);
}

std::vector<std::byte> FileBytes::read(std::uint64_t address, std::uint64_t count, const FileLocation& location) {
  location.require(contains(address, count), "expected {} bytes at address {}, but the file has {} bytes", count,
                   address, size_);
  std::vector<std::byte> bytes(count);
  for (std::uint64_t done = 0; done < count;) {
    const ssize_t got = ::pread(file_.get(), bytes.data() + done, count - done, static_cast<off_t>(address + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_to("read");
    if (got == 0) fail(ExitCode::io, "{}: became shorter while it was read", path_);
    done += static_cast<std::uint64_t>(got);
  }
  return bytes;
}

/// The system's refusal says nothing about the file's content.
void FileBytes::fail_to(const char* what) const {
  fail(ExitCode::io, "{}: cannot {}: {}", path_, what, std::strerror(errno));
}

}  // namespace causeway::hdf5_guard

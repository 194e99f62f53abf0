#include "io/hdf5_guard/bytes.hpp"

#include <algorithm>
#include <cstring>

#include "io/hdf5_guard/checksum.hpp"

namespace causeway::hdf5_guard {

std::uint64_t Fields::number(std::size_t size) {
  std::uint64_t value = 0;
  const auto bytes = take(size);
  for (std::size_t i = 0; i < size; ++i) value |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

std::span<const std::byte> Fields::take(std::size_t count) {
  location_.require(count <= left(), "a structure ends within its fields");
  const auto taken = bytes_.subspan(at_, count);
  at_ += count;
  return taken;
}

std::string_view Fields::text() {
  const auto rest = bytes_.subspan(at_);
  const auto end = std::find(rest.begin(), rest.end(), std::byte{0});
  location_.require(end != rest.end(), "a name does not end");
  const auto taken = take(static_cast<std::size_t>(end - rest.begin()) + 1);
  return {reinterpret_cast<const char*>(taken.data()), taken.size() - 1};
}

void Fields::signature(std::string_view expected) {
  const std::size_t before = at_;
  location_.require(std::memcmp(take(expected.size()).data(), expected.data(), expected.size()) == 0,
                    "expected '{}' {} bytes into a structure", expected, before);
}

void Fields::checksum() {
  const std::uint32_t expected = metadata_checksum(bytes_.first(at_));
  location_.require(number(4) == expected, "a structure's checksum does not fit it");
}

FileBytes::FileBytes(const std::string& path) : path_(path), file_(path, std::ios::binary | std::ios::ate) {
  if (!file_) fail(ExitCode::io, "{}: cannot read", path);
  size_ = static_cast<std::uint64_t>(file_.tellg());
}

std::vector<std::byte> FileBytes::read(std::uint64_t address, std::uint64_t count, const FileLocation& location) {
  location.require(contains(address, count), "{} bytes at {} lie past the end of the file", count, address);
  std::vector<std::byte> bytes(count);
  file_.seekg(static_cast<std::streamoff>(address));
  file_.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(count));
  if (!file_) fail(ExitCode::io, "{}: cannot read {} bytes at {}", path_, count, address);
  return bytes;
}

}  // namespace causeway::hdf5_guard

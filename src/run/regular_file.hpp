#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "io/file/descriptor.hpp"

namespace causeway {

/// A file that another program writes, opened to be read. Never a pipe or a device, on which a reader would wait.
class RegularFile {
 public:
  /// Returns no value if the file is missing, is not a regular file, or cannot be opened.
  static std::optional<RegularFile> open(const std::string& path);

  std::int64_t bytes() const { return bytes_; }  ///< its size when it was opened
  double modified() const { return modified_; }  ///< seconds since 1970
  /// Whether both are the same file; false where another file was renamed to the same path.
  bool same_as(const RegularFile& other) const { return device_ == other.device_ && inode_ == other.inode_; }
  /// Reads from `offset` on into `into`; returns the number of bytes read, 0 at the end.
  std::size_t read(std::int64_t offset, std::span<char> into) const;
  /// Up to `count` bytes from `offset` on; fewer where the file ends before.
  std::string text(std::int64_t offset, std::int64_t count) const;

 private:
  Descriptor file_;
  std::int64_t bytes_ = 0;
  double modified_ = 0;
  std::uint64_t device_ = 0, inode_ = 0;
};

/// All of a small file. Returns no value where it cannot be opened or has more than `limit` bytes.
std::optional<std::string> read_regular(const std::string& path, std::size_t limit);

}  // namespace causeway

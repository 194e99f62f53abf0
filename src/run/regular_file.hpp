#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "io/file/descriptor.hpp"

namespace causeway {

/// A file that another program writes, opened to be looked at: never a pipe or a device, on which a reader would wait.
class RegularFile {
 public:
  /// Nothing where there is no regular file of that name, or it cannot be opened.
  static std::optional<RegularFile> open(const std::string& path);

  std::int64_t bytes() const { return bytes_; }  ///< when it was opened
  double modified() const { return modified_; }  ///< seconds since 1970
  /// Whether it is the same file, not another one renamed to its place.
  bool same_as(const RegularFile& other) const { return device_ == other.device_ && inode_ == other.inode_; }
  /// Reads from `offset` on; returns how many bytes there were, 0 at the end.
  std::size_t read(std::int64_t offset, std::span<char> into) const;

 private:
  Descriptor file_;
  std::int64_t bytes_ = 0;
  double modified_ = 0;
  std::uint64_t device_ = 0, inode_ = 0;
};

/// The whole of a small one; nothing where there is none or it has more than `limit` bytes.
std::optional<std::string> read_regular(const std::string& path, std::size_t limit);

}  // namespace causeway

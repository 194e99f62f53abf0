#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "io/file/descriptor.hpp"

namespace causeway {

/// A regular file that is read at any offset. Throws Error(usage) for a missing file and for anything but a regular
/// file, Error(io) where the system cannot read.
class RandomAccessFile {
 public:
  explicit RandomAccessFile(const std::string& path);

  const std::string& path() const { return path_; }
  std::int64_t size() const { return size_; }  ///< when it was opened

  /// The bytes from `offset` on. Throws Error(usage) if the file has fewer.
  void read(std::int64_t offset, std::span<std::byte> out) const;

 private:
  std::string path_;
  Descriptor file_;
  std::int64_t size_ = 0;
};

}  // namespace causeway

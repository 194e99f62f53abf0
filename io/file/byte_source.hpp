#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/file/descriptor.hpp"

namespace causeway {

/// The bytes of a file, or of several files one after the other, as of NAME.part0, NAME.part1 … . Links are followed:
/// Hugging Face's cache has links. Throws Error(usage) for a missing file and for anything but a regular file.
class ByteSource {
 public:
  explicit ByteSource(std::vector<std::string> paths);
  explicit ByteSource(const std::string& path) : ByteSource(std::vector{path}) {}

  const std::string& path() const { return files_.front().path; }  ///< of the first file, for messages
  std::int64_t size() const { return size_; }                      ///< when the files were opened
  /// Reads bytes [begin, begin + out.size()). Throws Error(corrupt) where the files end before, Error(io) where the
  /// system cannot read.
  void read(std::int64_t begin, std::span<std::byte> out) const;
  /// Bytes [begin, begin + bytes) as text, with the same errors.
  std::string text(std::int64_t begin, std::int64_t bytes) const;

 private:
  struct File {
    std::string path;
    Descriptor descriptor;
    std::int64_t begin = 0, size = 0;  ///< of its bytes in the whole
  };
  std::vector<File> files_;
  std::int64_t size_ = 0;
};

}  // namespace causeway

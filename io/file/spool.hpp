#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/file/descriptor.hpp"

namespace causeway {

/// Bytes that are kept and read again: in memory up to a limit, the others in a file without a name, which disappears
/// with the process. Throws Error(io).
class Spool {
 public:
  /// The file, where one is needed, is in the folder of the path `beside`.
  Spool(std::string beside, std::size_t memory_bytes) : beside_(std::move(beside)), memory_bytes_(memory_bytes) {}

  std::int64_t size() const { return size_; }
  void clear();
  void append(std::span<const std::byte> bytes);
  /// Bytes [begin, begin + out.size()) of those appended.
  void read(std::int64_t begin, std::span<std::byte> out) const;

 private:
  std::string beside_;
  std::size_t memory_bytes_;
  std::vector<std::byte> memory_;
  Descriptor file_;
  std::int64_t size_ = 0;
};

}  // namespace causeway

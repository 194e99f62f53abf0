#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace causeway {

/// The size and SHA-256 of a file, which detect any change of its content.
struct Fingerprint {
  std::int64_t bytes = 0;
  std::string sha256;  ///< 64 lower-case hexadecimal digits, as sha256sum prints them (FIPS 180-4)
  bool operator==(const Fingerprint&) const = default;
};

/// Reads the file once. Throws Error(corrupt) for a missing file, a link, and anything but a regular file; Error(io)
/// for a file that cannot be read. `between`, if given, is called for about every MiB and may throw to stop.
Fingerprint fingerprint_of(const std::string& path, const std::function<void()>& between = {});

/// The SHA-256 of bytes in memory, as 64 hexadecimal digits.
std::string sha256_of(const std::string& bytes);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace causeway {

/// What a file holds, in so many words that another content is noticed.
struct Fingerprint {
  std::int64_t bytes = 0;
  std::string sha256;  ///< 64 lower-case hexadecimal digits, as sha256sum prints them (FIPS 180-4)
  bool operator==(const Fingerprint&) const = default;
};

/// Reads the file once. A link is not followed, and anything but a regular file is Error(corrupt), as is a file that is
/// missing; what the system cannot read is Error(io). `between`, where given, is called about every MiB and may throw
/// to end it.
Fingerprint fingerprint_of(const std::string& path, const std::function<void()>& between = {});
/// The size alone, under the same conditions.
std::int64_t size_of_file(const std::string& path);

/// Of bytes in memory.
std::string sha256_of(const std::string& bytes);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace causeway {

/// A SHA-256 (FIPS 180-4) of bytes that are added one part after the other.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void add(const void* bytes, std::size_t count);
  /// 64 lower-case hexadecimal digits. Nothing can be added after it.
  std::string hexadecimal();

 private:
  struct DigestTraits;
  struct State;
  std::unique_ptr<State> state_;
};

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

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/hdf5_guard/hdf5_guard.hpp"
#include "kernels/core/error.hpp"
#include "kernels/core/handle.hpp"

namespace causeway::hdf5_guard {

inline constexpr std::uint64_t undefined_address = ~std::uint64_t{0};

/// What a person can do about a feature that Causeway does not read.
inline constexpr const char* write_again = "write the file again without it, for example with h5repack";

/// The object of a file that is being checked: its name for errors ("file.h5:/a"), and the exit code of damage.
struct FileLocation {
  std::string where;
  ExitCode damaged = ExitCode::corrupt;

  /// Throws Error(damaged): "file.h5:/a: …".
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(damaged, "{}: {}", where, fmt::format(format, std::forward<Args>(args)...));
  }
  /// Throws UnsupportedFile: the file is well-formed. `feature`: "has …".
  [[noreturn]] void refuse_feature(const std::string& feature, const std::string& remedy = write_again) const {
    throw UnsupportedFile(fmt::format("{}: {}; Causeway does not read this: {}", where, feature, remedy));
  }
  template <class... Args>
  void require(bool holds, fmt::format_string<Args...> format, Args&&... args) const {
    if (!holds) refuse(format, std::forward<Args>(args)...);
  }
};

/// Reads little-endian fields one after the other from bytes of a file. Throws where a field is past their end.
class FieldReader {
 public:
  FieldReader(std::span<const std::byte> bytes, const FileLocation& location) : bytes_(bytes), location_(location) {}

  std::uint64_t number(std::size_t size);
  std::uint64_t address() { return number(8); }
  void skip(std::size_t count) { take(count); }
  std::span<const std::byte> take(std::size_t count);
  /// The bytes up to the next NUL, which is skipped.
  std::string_view text();
  /// Throws unless these bytes come next.
  void signature(std::string_view expected);

  /// Throws unless the next four bytes are the checksum of all bytes before them.
  void checksum();

  std::size_t left() const { return bytes_.size() - at_; }
  std::size_t at() const { return at_; }
  const FileLocation& location() const { return location_; }

 private:
  std::span<const std::byte> bytes_;
  const FileLocation& location_;
  std::size_t at_ = 0;
};

struct FileTraits {
  using type = int;
  static type null() { return -1; }
  static void close(type file) noexcept;
};

/// Reads a file's bytes by address. Throws where they are past the end of the file; Error(io) where the system cannot
/// open or read the file.
class FileBytes {
 public:
  explicit FileBytes(const std::string& path);

  std::uint64_t size() const { return size_; }
  bool contains(std::uint64_t address, std::uint64_t count) const {
    return address <= size_ && count <= size_ - address;
  }
  std::vector<std::byte> read(std::uint64_t address, std::uint64_t count, const FileLocation& location);

 private:
  [[noreturn]] void fail_to(const char* what) const;

  std::string path_;
  Handle<FileTraits> file_;
  std::uint64_t size_ = 0;
};

}  // namespace causeway::hdf5_guard

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/file/byte_source.hpp"

namespace causeway {

/// How a file stores a number.
struct NumberType {
  enum class Kind : std::uint8_t { boolean, unsigned_integer, signed_integer, floating };
  Kind kind = Kind::unsigned_integer;
  int bytes = 1;
  bool big_endian = false;

  bool is_integer() const { return kind == Kind::unsigned_integer || kind == Kind::signed_integer; }
  std::string to_string() const;  ///< "int32", "bool"
};

/// A list of numbers in a file that is not trusted, at any offset, aligned or not. It keeps a part of the list in
/// memory. The file must outlive it.
class NumberArray {
 public:
  NumberArray() = default;
  /// `what` names the list in messages. Throws Error(usage) where the file does not hold it, and for floating-point
  /// numbers that are not of 4 or 8 bytes.
  NumberArray(const ByteSource& file, std::int64_t offset, std::int64_t count, NumberType type, std::string what);

  std::int64_t size() const { return count_; }
  const NumberType& type() const { return type_; }
  const std::string& path() const { return file_->path(); }
  std::string where() const { return file_->path() + ": " + what_; }

  /// Elements [begin, begin + out.size()). Integers are read as integers; those above 2^63 - 1 as 2^63 - 1.
  void read(std::int64_t begin, std::span<std::int64_t> out) const;
  /// The same as floating-point numbers.
  void read(std::int64_t begin, std::span<double> out) const;
  /// An element; reading in order reads the file in parts.
  std::int64_t at(std::int64_t index) const;

 private:
  template <class T>
  void read_as(std::int64_t begin, std::span<T> out) const;

  const ByteSource* file_ = nullptr;
  std::int64_t offset_ = 0, count_ = 0;
  NumberType type_;
  std::string what_;
  mutable std::vector<std::byte> bytes_;
  mutable std::vector<std::int64_t> window_;
  mutable std::int64_t window_begin_ = 0;
};

/// Throws Error(usage) unless `boundaries` starts with 0, never falls, and ends with `end`: the documents of a list of
/// `end` elements. Reads it once, in bounded memory.
void require_boundaries(const NumberArray& boundaries, std::int64_t end);

}  // namespace causeway

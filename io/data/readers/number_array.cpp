#include "io/data/readers/number_array.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::int64_t part = 8192;  // elements read at once

static_assert(std::endian::native == std::endian::little);

/// Calls `visit` with a value of the C++ type that `type` is.
template <class Visit>
void with_type(const NumberType& type, Visit&& visit) {
  const bool is_signed = type.kind == NumberType::Kind::signed_integer;
  if (type.kind == NumberType::Kind::floating) return type.bytes == 4 ? visit(float{}) : visit(double{});
  switch (type.bytes) {
    case 1:
      return is_signed ? visit(std::int8_t{}) : visit(std::uint8_t{});
    case 2:
      return is_signed ? visit(std::int16_t{}) : visit(std::uint16_t{});
    case 4:
      return is_signed ? visit(std::int32_t{}) : visit(std::uint32_t{});
    default:
      return is_signed ? visit(std::int64_t{}) : visit(std::uint64_t{});
  }
}

void reverse_each(std::span<std::byte> bytes, int size) {
  for (auto at = bytes.begin(); at != bytes.end(); at += size) std::reverse(at, at + size);
}

template <class To, class From>
To converted(From value) {
  if constexpr (std::is_same_v<From, std::uint64_t> && std::is_integral_v<To>)
    return static_cast<To>(std::min<std::uint64_t>(value, std::numeric_limits<To>::max()));
  else
    return static_cast<To>(value);
}

}  // namespace

std::string NumberType::to_string() const {
  if (kind == Kind::boolean) return "bool";
  return fmt::format("{}{}",
                     kind == Kind::floating         ? "float"
                     : kind == Kind::signed_integer ? "int"
                                                    : "uint",
                     8 * bytes);
}

NumberArray::NumberArray(const ByteSource& file, std::int64_t offset, std::int64_t count, NumberType type,
                         std::string what)
    : file_(&file), offset_(offset), count_(count), type_(type), what_(std::move(what)) {
  require(type.kind != NumberType::Kind::floating || type.bytes == 4 || type.bytes == 8,
          "{}: holds {}, expected float32, float64 or integers", where(), type.to_string());
  require(offset >= 0 && offset <= file.size() && count >= 0 && count <= (file.size() - offset) / type.bytes,
          "{}: has {} elements of {} bytes from byte {} on, expected a list within the file's {} bytes", where(), count,
          type.bytes, offset, file.size());
}

template <class T>
void NumberArray::read_as(std::int64_t begin, std::span<T> out) const {
  ensure(begin >= 0 && begin + std::ssize(out) <= count_, "{}: element {} of {}", where(), begin + std::ssize(out),
         count_);
  while (!out.empty()) {
    const auto some = out.first(std::min<std::size_t>(out.size(), part));
    bytes_.resize(some.size() * static_cast<std::size_t>(type_.bytes));
    file_->read(offset_ + begin * type_.bytes, bytes_);
    if (type_.big_endian) reverse_each(bytes_, type_.bytes);
    with_type(type_, [&](auto type) {
      for (std::size_t i = 0; i < some.size(); ++i) {
        std::memcpy(&type, bytes_.data() + i * sizeof(type), sizeof(type));
        some[i] = converted<T>(type);
      }
    });
    begin += std::ssize(some);
    out = out.subspan(some.size());
  }
}

void NumberArray::read(std::int64_t begin, std::span<std::int64_t> out) const {
  ensure(type_.kind != NumberType::Kind::floating, "{}: is not of integers", where());
  read_as(begin, out);
}

void NumberArray::read(std::int64_t begin, std::span<double> out) const { read_as(begin, out); }

std::int64_t NumberArray::at(std::int64_t index) const {
  if (index < window_begin_ || index >= window_begin_ + std::ssize(window_)) {
    window_.resize(static_cast<std::size_t>(std::min(part, count_ - index)));
    window_begin_ = index;
    read(index, window_);
  }
  return window_[static_cast<std::size_t>(index - window_begin_)];
}

void require_boundaries(const NumberArray& boundaries, std::int64_t end) {
  require(boundaries.size() > 0, "{}: is empty, expected at least one boundary, 0", boundaries.where());
  std::int64_t before = 0;
  for (std::int64_t i = 0; i < boundaries.size(); ++i) {
    const std::int64_t value = boundaries.at(i);
    require(i > 0 || value == 0, "{}: starts with {}, expected 0", boundaries.where(), value);
    require(value >= before, "{}: boundary {} is {}, expected at least the {} before it", boundaries.where(), i, value,
            before);
    before = value;
  }
  require(before == end, "{}: ends with {}, expected {}", boundaries.where(), before, end);
}

}  // namespace causeway

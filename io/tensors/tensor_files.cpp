#include "io/tensors/tensor_files.hpp"

#include <fmt/ranges.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

/// The number of elements from the first one in memory to the last one, for non-negative strides; 0 for an empty
/// tensor, -1 where it does not fit in 62 bits.
std::int64_t span_of(const FileTensor& tensor) {
  constexpr std::int64_t most = std::int64_t{1} << 62;
  std::int64_t last = 0, elements = 1;
  if (std::ranges::find(tensor.shape, 0) != tensor.shape.end()) return 0;
  for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
    std::int64_t reach = 0;
    if (__builtin_mul_overflow(tensor.shape[axis] - 1, tensor.strides[axis], &reach) ||
        __builtin_add_overflow(last, reach, &last) || __builtin_mul_overflow(elements, tensor.shape[axis], &elements) ||
        elements > most || last >= most)
      return -1;
  }
  return last + 1;
}

/// Copies the elements of axes `axis` … of a tensor with any strides, in row-major order; returns the end of the copy.
std::byte* gather(const FileTensor& tensor, std::size_t axis, const std::byte* from, std::byte* to) {
  const auto bytes = static_cast<std::size_t>(size_of(tensor.type));
  if (axis == tensor.shape.size()) {
    std::memcpy(to, from, bytes);
    return to + bytes;
  }
  for (std::int64_t i = 0; i < tensor.shape[axis]; ++i)
    to = gather(tensor, axis + 1, from + static_cast<std::size_t>(i * tensor.strides[axis]) * bytes, to);
  return to;
}

}  // namespace

std::int64_t elements_in(std::span<const std::int64_t> shape) {
  if (std::ranges::find(shape, 0) != shape.end()) return 0;  // the product of the others may not fit in 64 bits
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

bool FileTensor::is_row_major() const {
  if (elements() == 0) return true;
  std::int64_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0; expected *= shape[axis])
    if (shape[axis] != 1 && strides[axis] != expected) return false;
  return true;
}

std::vector<std::int64_t> row_major_strides(std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t axis = shape.size(); axis-- > 1;)
    if (__builtin_mul_overflow(strides[axis], shape[axis], &strides[axis - 1])) strides[axis - 1] = 0;
  return strides;
}

std::size_t TensorFiles::add_source(ByteSource source) {
  sources_.push_back(std::move(source));
  return sources_.size() - 1;
}

std::string TensorFiles::where(const FileTensor& tensor) const {
  return fmt::format("{}: tensor '{}'", sources_[tensor.source].path(), tensor.name.substr(0, 200));
}

void TensorFiles::add(FileTensor tensor) {
  constexpr std::size_t most_axes = 8;
  const auto refuse = [&](bool holds, const std::string& what) {
    if (!holds) fail(ExitCode::corrupt, "{} {}", where(tensor), what);
  };
  ensure(tensor.strides.size() == tensor.shape.size(), "tensor '{}' has {} strides for {} axes", tensor.name,
         tensor.strides.size(), tensor.shape.size());
  const auto negative = [](std::int64_t value) { return value < 0; };
  refuse(tensor.shape.size() <= most_axes,
         fmt::format("has {} axes, expected at most {}", tensor.shape.size(), most_axes));
  refuse(std::ranges::none_of(tensor.shape, negative) && std::ranges::none_of(tensor.strides, negative),
         fmt::format("has shape [{}] and strides [{}], expected none below 0", fmt::join(tensor.shape, ", "),
                     fmt::join(tensor.strides, ", ")));
  const std::int64_t span = span_of(tensor), size = sources_[tensor.source].size();
  std::int64_t bytes = 0, end = 0;
  refuse(span >= 0 && !__builtin_mul_overflow(span, size_of(tensor.type), &bytes) &&
             !__builtin_add_overflow(tensor.begin, bytes, &end) && tensor.begin >= 0 && end <= size,
         fmt::format("has shape [{}] of {} from byte {} on, beyond the file's {} bytes", fmt::join(tensor.shape, ", "),
                     name_of(tensor.type), tensor.begin, size));
  refuse(by_name_.emplace(tensor.name, tensors_.size()).second, "is there twice");
  tensors_.push_back(std::move(tensor));
}

const FileTensor* TensorFiles::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

void TensorFiles::read(const FileTensor& tensor, std::span<std::byte> out) const {
  ensure(std::ssize(out) == tensor.bytes(), "tensor '{}' has {} bytes, not {}", tensor.name, tensor.bytes(),
         out.size());
  if (out.empty()) return;
  if (tensor.is_row_major()) {
    sources_[tensor.source].read(tensor.begin, out);
    return check(tensor, out);
  }
  // A transposed tensor lies in as many bytes as it has; a small part of a large one could need much memory.
  constexpr std::int64_t factor = 4, small = std::int64_t{64} << 20;
  const std::int64_t bytes = span_of(tensor) * size_of(tensor.type);
  if (bytes > small && bytes / factor > tensor.bytes())
    fail(ExitCode::usage, "{} has strides [{}], which spread its {} elements over {} bytes", where(tensor),
         fmt::join(tensor.strides, ", "), tensor.elements(), bytes);
  std::vector<std::byte> stored(static_cast<std::size_t>(bytes));
  sources_[tensor.source].read(tensor.begin, stored);
  check(tensor, stored);
  gather(tensor, 0, stored.data(), out.data());
}

void TensorFiles::check(const FileTensor& tensor, std::span<const std::byte> stored) const {
  if (tensor.crc32 == 0) return;
  const auto found = ::crc32_z(0, reinterpret_cast<const Bytef*>(stored.data()), stored.size());
  if (found != tensor.crc32)
    fail(ExitCode::corrupt, "{} is damaged: its CRC-32 is {:08x}, expected {:08x}", where(tensor), found, tensor.crc32);
}

void TensorFiles::read_part(const FileTensor& tensor, std::int64_t first, std::span<std::byte> out) const {
  ensure(tensor.is_row_major(), "tensor '{}' is not row-major", tensor.name);
  sources_[tensor.source].read(tensor.begin + first * size_of(tensor.type), out);
}

}  // namespace causeway

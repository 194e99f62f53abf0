#include <hdf5.h>

#include <algorithm>

#include "io/hdf5/check.hpp"
#include "io/hdf5/chunk_reader.hpp"
#include "io/hdf5/hdf5.hpp"
#include "io/hdf5/types.hpp"

namespace causeway::hdf5 {

std::vector<std::int64_t> Dataset::shape() const {
  const SilencedErrors silenced;
  const Id space(check(H5Dget_space(id()), where_, "read its shape", damaged_));
  const int rank = check(H5Sget_simple_extent_ndims(space.get()), where_, "read its shape", damaged_);
  require(H5Sget_simple_extent_type(space.get()) != H5S_NULL, "{}: has no values", where_);
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr), where_, "read its shape", damaged_);
  std::vector<std::int64_t> shape(extents.begin(), extents.end());
  product(shape, where_);
  return shape;
}

std::int64_t Dataset::rows() const {
  const auto extents = shape();
  return extents.empty() ? 1 : extents.front();
}

std::int64_t Dataset::row_size() const {
  const auto extents = shape();
  return extents.empty() ? 1 : product(std::span(extents).subspan(1), where_);
}

ElementType Dataset::type() const {
  const SilencedErrors silenced;
  const Id type(check(H5Dget_type(id()), where_, "read its type", damaged_));
  return element_type_of(type.get());
}

std::optional<std::int64_t> Dataset::file_offset() const {
  const SilencedErrors silenced;
  const haddr_t offset = H5Dget_offset(id());
  if (offset == HADDR_UNDEF) return std::nullopt;
  return static_cast<std::int64_t>(offset);
}

void Dataset::extend(std::int64_t rows) {
  const SilencedErrors silenced;
  auto extents = shape();
  ensure(!extents.empty(), "{}: a scalar cannot grow", where_);
  extents.front() = rows;
  const std::vector<hsize_t> wanted(extents.begin(), extents.end());
  check(H5Dset_extent(id(), wanted.data()), where_, "extend", ExitCode::io);
}

void Dataset::require_at_most(std::int64_t limit) const {
  require(size() <= limit, "{}: has {} values, expected at most {}", where_, size(), limit);
}

/// Reads `count` elements into `out`, or writes them from `in`: whole rows, the first one `begin`. The other pointer is
/// null.
void Dataset::transfer(std::int64_t begin, std::int64_t count, std::int64_t memory, void* out, const void* in) const {
  const auto extents = shape();
  const std::int64_t row = row_size();
  if (count == 0) return;
  ensure(row > 0 && count % row == 0, "{}: {} values are not whole rows of {}", where_, count, row);
  const std::int64_t rows = count / row, all_rows = extents.empty() ? 1 : extents.front();
  require(begin >= 0 && rows <= all_rows && begin <= all_rows - rows, "{}: has {} rows, expected {} from row {} on",
          where_, all_rows, rows, begin);
  if (out != nullptr && chunk_reader_) return chunk_reader_->read_rows(id(), begin, rows, memory, out);
  const Id file_space(check(H5Dget_space(id()), where_, "read its shape", damaged_));
  if (!extents.empty()) {
    std::vector<hsize_t> start(extents.size(), 0), length(extents.begin(), extents.end());
    start.front() = static_cast<hsize_t>(begin);
    length.front() = static_cast<hsize_t>(rows);
    check(H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, length.data(), nullptr), where_,
          "select rows", ExitCode::internal);
  }
  const hsize_t flat = static_cast<hsize_t>(count);
  const Id memory_space(check(H5Screate_simple(1, &flat, nullptr), where_, "select memory", ExitCode::internal));
  if (out != nullptr)
    check(H5Dread(id(), memory, memory_space.get(), file_space.get(), H5P_DEFAULT, out), where_, "read", damaged_);
  else
    check(H5Dwrite(id(), memory, memory_space.get(), file_space.get(), H5P_DEFAULT, in), where_, "write", ExitCode::io);
}

void Dataset::read_rows(std::int64_t begin, void* out, std::int64_t count, ElementType wanted) const {
  const SilencedErrors silenced;
  using Kind = ElementType::Kind;
  const ElementType found = type();
  const auto counts_as = [](Kind kind) { return kind == Kind::bfloat ? Kind::floating : kind; };
  const bool readable =
      counts_as(found.kind) == counts_as(wanted.kind) || (found.kind == Kind::integer && wanted.kind == Kind::floating);
  require(readable, "{}: holds {}, expected {}", where_, found.to_string(), wanted.to_string());
  transfer(begin, count, memory_type(wanted), out, nullptr);
}

void Dataset::write_rows(std::int64_t begin, const void* in, std::int64_t count, ElementType given) {
  const SilencedErrors silenced;
  transfer(begin, count, memory_type(given), nullptr, in);
}

void Dataset::read_bytes(std::int64_t begin, std::span<std::byte> out) const {
  const ElementType stored = type();
  ensure(stored.bytes > 0 && std::ssize(out) % stored.bytes == 0, "{}: {} bytes are not whole elements", where_,
         out.size());
  read_rows(begin, out.data(), std::ssize(out) / stored.bytes, stored);
}

void Dataset::write_bytes(std::int64_t begin, std::span<const std::byte> in) {
  const ElementType stored = type();
  ensure(stored.bytes > 0 && std::ssize(in) % stored.bytes == 0, "{}: {} bytes are not whole elements", where_,
         in.size());
  write_rows(begin, in.data(), std::ssize(in) / stored.bytes, stored);
}

std::vector<std::string> Dataset::read_strings(std::int64_t begin, std::int64_t count) const {
  const SilencedErrors silenced;
  const ElementType found = type();
  require(found.kind == ElementType::Kind::string && shape().size() == 1,
          "{}: holds {} of rank {}, expected a list of strings", where_, found.to_string(), shape().size());
  require(begin >= 0 && count >= 0 && count <= rows() && begin <= rows() - count,
          "{}: has {} strings, expected {} from number {} on", where_, rows(), count, begin);
  const Id stored(check(H5Dget_type(id()), where_, "read its type", damaged_));
  std::vector<std::string> strings;
  if (found.bytes > 0) {
    require(found.bytes <= longest_fixed_string, "{}: strings of {} bytes, expected at most {}", where_, found.bytes,
            longest_fixed_string);
    const std::int64_t at_once = longest_fixed_string / found.bytes;
    std::string some;
    for (std::int64_t read = 0; read < count; read += at_once) {
      const std::int64_t number = std::min(at_once, count - read);
      some.resize(static_cast<std::size_t>(number * found.bytes));
      transfer(begin + read, number, stored.get(), some.data(), nullptr);
      for (std::int64_t s = 0; s < number; ++s)
        strings.push_back(
            unpadded(some.substr(static_cast<std::size_t>(s * found.bytes), static_cast<std::size_t>(found.bytes)),
                     stored.get()));
    }
    return strings;
  }
  if (count == 0) return strings;
  if (chunk_reader_) return chunk_reader_->read_strings(id(), begin, count);
  std::vector<char*> pointers(static_cast<std::size_t>(count), nullptr);
  const hsize_t flat = static_cast<hsize_t>(count);
  const Id memory_space(check(H5Screate_simple(1, &flat, nullptr), where_, "select memory", ExitCode::internal));
  const auto reclaim = [&] { H5Dvlen_reclaim(stored.get(), memory_space.get(), H5P_DEFAULT, pointers.data()); };
  try {
    transfer(begin, count, stored.get(), pointers.data(), nullptr);
  } catch (...) {
    reclaim();
    throw;
  }
  for (const char* pointer : pointers) strings.emplace_back(pointer == nullptr ? "" : pointer);
  reclaim();
  return strings;
}

void Dataset::write_strings(std::int64_t begin, std::span<const std::string> in) {
  const SilencedErrors silenced;
  std::vector<const char*> pointers;
  for (const std::string& text : in) pointers.push_back(text.c_str());
  transfer(begin, static_cast<std::int64_t>(pointers.size()), string_type().get(), nullptr, pointers.data());
}

}  // namespace causeway::hdf5

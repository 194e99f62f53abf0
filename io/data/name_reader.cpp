#include "io/data/name_reader.hpp"

#include <zlib.h>

#include <algorithm>

#include "kernels/core/error.hpp"

namespace causeway {
namespace {

constexpr std::int64_t names_at_once = 4096;

}  // namespace

std::uint32_t names_checksum(std::uint32_t so_far, const std::string& name) {
  return static_cast<std::uint32_t>(
      ::crc32(so_far, reinterpret_cast<const Bytef*>(name.c_str()), static_cast<uInt>(name.size() + 1)));
}

NameReader::NameReader(const Dataset& data) : data_(data) { check(); }

std::string NameReader::next() {
  if (next_ == first_ + std::ssize(names_)) {
    first_ = next_;
    names_ = data_.names(first_, std::min(names_at_once, data_.documents() - first_));
  }
  ensure(next_ < data_.documents(), "{}: all names are read", data_.path());
  std::string& name = names_[static_cast<std::size_t>(next_++ - first_)];
  checksum_ = names_checksum(checksum_, name);
  check();
  return std::move(name);
}

void NameReader::check() const {
  if (next_ < data_.documents()) return;
  const std::optional<std::int64_t> expected = data_.stored_names_checksum();
  if (expected && *expected != checksum_)
    fail(ExitCode::corrupt, "{}:/names: the checksum of its {} strings is {}, expected {} as its attribute crc32 says",
         data_.path(), data_.documents(), checksum_, *expected);
}

}  // namespace causeway

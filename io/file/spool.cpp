#include "io/file/spool.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/file/temporary_file.hpp"
#include "kernels/core/error.hpp"

namespace causeway {

void Spool::clear() {
  if (size_ > std::ssize(memory_))
    posix_check(::ftruncate(file_.get(), 0), beside_, "empty a temporary file beside it");
  memory_.clear();
  size_ = 0;
}

void Spool::append(std::span<const std::byte> bytes) {
  const auto kept = bytes.first(std::min(bytes.size(), memory_bytes_ - memory_.size()));
  memory_.insert(memory_.end(), kept.begin(), kept.end());
  size_ += std::ssize(kept);
  bytes = bytes.subspan(kept.size());
  if (bytes.empty()) return;
  if (!file_) {
    const TemporaryFile named(beside_);  // its name is removed below; the open file stays
    file_ = Descriptor(posix_check(::open(named.path().c_str(), O_RDWR | O_CLOEXEC), named.path(), "open"));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!write_all_at(file_.get(), text, size_ - std::ssize(memory_)))
    posix_check(-1, beside_, "write a temporary file beside it");
  size_ += std::ssize(bytes);
}

void Spool::read(std::int64_t begin, std::span<std::byte> out) const {
  ensure(begin >= 0 && begin + std::ssize(out) <= size_, "spool: {} bytes from {} on, expected at most {}", out.size(),
         begin, size_);
  if (begin < std::ssize(memory_)) {
    const auto count = std::min(out.size(), memory_.size() - static_cast<std::size_t>(begin));
    std::memcpy(out.data(), memory_.data() + begin, count);
    out = out.subspan(count);
    begin += static_cast<std::int64_t>(count);
  }
  if (out.empty()) return;
  constexpr const char* doing = "read a temporary file beside it";
  if (read_all_at(file_.get(), out, begin - std::ssize(memory_), beside_, doing) == out.size()) return;
  errno = EIO;
  posix_check(-1, beside_, doing);
}

}  // namespace causeway

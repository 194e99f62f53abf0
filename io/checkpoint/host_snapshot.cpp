#include "io/checkpoint/host_snapshot.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/core/trace.hpp"

namespace causeway {
namespace {

/// Calls body(slab, offset in it, bytes done before, bytes) for each slab that [offset, offset + bytes) touches.
template <class Body>
void for_slabs(std::int64_t offset, std::int64_t bytes, std::int64_t slab_bytes, Body&& body) {
  for (std::int64_t done = 0; done < bytes;) {
    const std::int64_t at = offset + done, inside = at % slab_bytes;
    const std::int64_t count = std::min(bytes - done, slab_bytes - inside);
    body(static_cast<std::size_t>(at / slab_bytes), inside, done, count);
    done += count;
  }
}

}  // namespace

void HostSnapshot::take(std::span<const Source> sources) {
  const ProfileRange range(stream_, "checkpoint copy");
  offsets_.clear();
  std::int64_t total = 0;
  for (const Source& source : sources) {
    offsets_.push_back(total);
    total += source.bytes;
  }
  if (slabs_.empty() && total > 0)  // a small copy takes one slab of its size
    slab_bytes_ = std::min(slab_bytes_, static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(total))));
  while (std::ssize(slabs_) * slab_bytes_ < total) slabs_.emplace_back(stream_.host(), DType::u8, Shape{slab_bytes_});
  for (std::size_t i = 0; i < sources.size(); ++i)
    for_slabs(offsets_[i], sources[i].bytes, slab_bytes_,
              [&](std::size_t slab, std::int64_t inside, std::int64_t done, std::int64_t count) {
                stream_.copy(slabs_[slab].view().row<std::byte>(0) + inside,
                             static_cast<const std::byte*>(sources[i].data) + done, count);
              });
  stream_.wait();
}

void HostSnapshot::read(std::size_t index, std::int64_t begin, std::span<std::byte> out) const {
  for_slabs(offsets_[index] + begin, std::ssize(out), slab_bytes_,
            [&](std::size_t slab, std::int64_t inside, std::int64_t done, std::int64_t count) {
              std::memcpy(out.data() + done, slabs_[slab].view().row<std::byte>(0) + inside,
                          static_cast<std::size_t>(count));
            });
}

std::int64_t HostSnapshot::bytes() const { return std::ssize(slabs_) * slab_bytes_; }

}  // namespace causeway

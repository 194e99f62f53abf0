#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// Copies of a device's memory on the host, in slabs of one size that serve again and again: page-locked memory is dear
/// to get and comes in powers of two, so that one block of it all could take twice the room.
class HostSlabs {
 public:
  /// `slab_bytes`: a power of two.
  explicit HostSlabs(const Stream& stream, std::int64_t slab_bytes = std::int64_t{32} << 20)
      : stream_(stream), slab_bytes_(slab_bytes) {}

  struct Source {
    const void* data = nullptr;  ///< in the memory of the stream's device
    std::int64_t bytes = 0;
  };
  /// Copies all of them in the stream's order, in the place of what was copied before, and waits for it.
  void take(std::span<const Source> sources);
  /// Bytes from `begin` on of source `index` as it was. May be called by another thread than take()'s.
  void read(std::size_t index, std::int64_t begin, std::span<std::byte> out) const;
  std::int64_t bytes() const;  ///< of host memory held

 private:
  Stream stream_;
  std::int64_t slab_bytes_;
  std::vector<Tensor> slabs_;
  std::vector<std::int64_t> offsets_;  // where each source begins in the slabs, one after the other
};

}  // namespace causeway

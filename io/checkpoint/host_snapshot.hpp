#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/core/tensor.hpp"

namespace causeway {

/// A copy of tensors in host memory, which is written to disk while training continues. For a GPU the memory is
/// page-locked. It consists of slabs of one size that are reused for every copy: page-locked memory is slow to
/// allocate, and its sizes are rounded up to powers of two, so that one large block could take twice the memory.
class HostSnapshot {
 public:
  /// `slab_bytes`: a power of two.
  explicit HostSnapshot(const Stream& stream, std::int64_t slab_bytes = std::int64_t{32} << 20)
      : stream_(stream), slab_bytes_(slab_bytes) {}

  struct Source {
    const void* data = nullptr;  ///< in the memory of the stream's device
    std::int64_t bytes = 0;
  };
  /// Replaces the copy by one of `sources`, in the stream's order, and waits for it.
  void take(std::span<const Source> sources);
  /// Bytes [begin, begin + out.size()) of the copy of source `index`. Another thread than that of take() may call it.
  void read(std::size_t index, std::int64_t begin, std::span<std::byte> out) const;
  std::int64_t bytes() const;  ///< of host memory allocated

 private:
  Stream stream_;
  std::int64_t slab_bytes_;
  std::vector<Tensor> slabs_;
  std::vector<std::int64_t> offsets_;  ///< of each source in the concatenated slabs
};

}  // namespace causeway

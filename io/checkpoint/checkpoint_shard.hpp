#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/hdf5/hdf5.hpp"

namespace causeway {

/// A rank's part of one tensor.
struct ShardTensor {
  std::string name;  ///< path of its dataset
  hdf5::ElementType type = hdf5::f32;
  std::int64_t elements = 0;  ///< 0: the shard has no such dataset
};

/// Writes a rank's shard of a checkpoint and syncs it to the disk. It has a one-dimensional dataset for each tensor, in
/// chunks with checksums. `read(tensor, first byte, out)` gives the elements in the tensor's type, tensor after tensor
/// and from the first byte on. Only one thread of a process uses libHDF5 at a time, so its lock is held for one MiB at
/// most. `between` is called before each MiB and may throw to stop.
void write_shard(const std::string& path, std::span<const ShardTensor> tensors,
                 const std::function<void(std::size_t tensor, std::int64_t begin, std::span<std::byte> out)>& read,
                 const std::function<void()>& between);

}  // namespace causeway

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/core/dtype.hpp"

namespace causeway {

/// A rank's part of one tensor, as its shard has it.
struct ShardTensor {
  std::string name;  ///< path of its dataset
  DType dtype = DType::f32;
  std::int64_t elements = 0;  ///< 0: the shard has no such dataset
};

/// Writes a rank's shard of a checkpoint: a one-dimensional dataset a tensor, chunked, with a checksum a chunk; and
/// brings it to the disk. `read(tensor, first byte, out)` gives the elements in their own type. HDF5, which one thread
/// of a process uses at a time, is held for a MiB at most; `between` is called before each and may throw to end it.
void write_shard(const std::string& path, std::span<const ShardTensor> tensors,
                 const std::function<void(std::size_t tensor, std::int64_t begin, std::span<std::byte> out)>& read,
                 const std::function<void()>& between);

}  // namespace causeway

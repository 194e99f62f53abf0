#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "io/checkpoint/checkpoint_content.hpp"

namespace causeway {

/// A checkpoint that one process writes tensor after tensor, without having all of them in memory.
struct StreamedCheckpoint {
  std::int64_t step = 0;
  /// Its tensors give only names, shapes and types in the file.
  CheckpointContent content;
  /// A shard has at most these bytes, or one tensor.
  std::int64_t most_shard_bytes = std::int64_t{5} << 30;
  /// The path of a file of that name, which does not exist.
  std::function<std::string(const std::string& name)> path_of;
  /// Gives the bytes of a tensor in its type in the file, tensor after tensor and from the first byte on.
  std::function<void(std::size_t tensor, std::int64_t begin, std::span<std::byte> out)> read;
};

/// Writes the shards, index.h5 and manifest.json. All files are on the disk then. Throws Error(io).
void write_streamed_checkpoint(const StreamedCheckpoint& checkpoint);

}  // namespace causeway

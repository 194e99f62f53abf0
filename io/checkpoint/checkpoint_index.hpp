#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_content.hpp"

namespace causeway {

/// Which elements of a tensor each shard has.
struct TensorParts {
  struct Part {
    std::int64_t shard = 0;
    Range elements;  ///< row-major, of the whole tensor; never empty
    bool operator==(const Part&) const = default;
  };
  std::vector<std::int64_t> shape;
  hdf5::ElementType type = hdf5::f32;
  std::vector<Part> parts;  ///< ordered by shard and by element; each element once
};

/// Writes index.h5, which has each whole tensor as a virtual dataset over the shards, and syncs it to the disk.
/// `owned`: each rank's range of each tensor, [rank][tensor].
void write_index(const std::string& path, const CheckpointContent& content, std::span<const Range> owned);

/// The group /source of an index; nothing without it.
std::optional<CheckpointSource> read_source(const hdf5::File& index);

/// Reads the parts of one tensor from an index. Throws Error(corrupt) unless they are exactly what write_index()
/// writes: boxes of shards 0 … shards-1 that cover the tensor once and in order. So a damaged or malicious index cannot
/// make its reader open another file or read other elements.
TensorParts tensor_parts(const hdf5::File& index, const std::string& name, std::int64_t shards);

}  // namespace causeway

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_content.hpp"

namespace causeway {

/// Which shard has which elements of a tensor.
struct TensorParts {
  struct Part {
    std::int64_t shard = 0;
    Range elements;  ///< row-major, of the whole; never empty
    bool operator==(const Part&) const = default;
  };
  std::vector<std::int64_t> shape;
  hdf5::ElementType type = hdf5::f32;
  std::vector<Part> parts;  ///< in the order of shards and elements, each element once
};

/// Writes index.h5, which shows the tensors whole, and brings it to the disk. `owned`: each rank's range of each
/// tensor, [rank][tensor].
void write_index(const std::string& path, const CheckpointContent& content, std::span<const Range> owned);

/// What an index says of one tensor. Error(corrupt) unless it is what write_index() writes: boxes of shards 0 …
/// shards-1 that cover the tensor exactly once, in order. So a damaged or hostile index leads to no other file and no
/// other element.
TensorParts tensor_parts(const hdf5::File& index, const std::string& name, std::int64_t shards);

}  // namespace causeway

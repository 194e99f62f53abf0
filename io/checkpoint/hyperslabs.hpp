#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/layout/shard_layout.hpp"

namespace causeway {

/// A box of a tensor (HDF5: hyperslab): indices start[a] … start[a] + extent[a] - 1 along each axis a.
struct Hyperslab {
  std::vector<std::int64_t> start, extent;
  std::int64_t size() const;  ///< elements
  bool operator==(const Hyperslab&) const = default;
};

/// Divides the row-major elements [begin, end) of a tensor of this shape into boxes, in order. Each box is a run of
/// elements without gaps. There are as few as possible, at most 2·axes - 1.
std::vector<Hyperslab> hyperslabs_of(std::span<const std::int64_t> shape, Range elements);

}  // namespace causeway

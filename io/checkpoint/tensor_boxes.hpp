#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/layout/shard_layout.hpp"

namespace causeway {

/// A box of a tensor: indices start[a] … start[a] + extent[a] - 1 along each axis a.
struct Box {
  std::vector<std::int64_t> start, extent;
  std::int64_t size() const;  ///< elements
  bool operator==(const Box&) const = default;
};

/// The boxes that row-major elements [begin, end) of a tensor of this shape are, in order, as few and as large as can
/// be: at most 2·axes - 1, each a run of elements without a gap.
std::vector<Box> boxes_of(std::span<const std::int64_t> shape, Range elements);

}  // namespace causeway

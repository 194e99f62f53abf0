#include "io/checkpoint/hyperslabs.hpp"

#include <algorithm>

#include "kernels/core/error.hpp"

namespace causeway {

std::int64_t Hyperslab::size() const {
  std::int64_t size = 1;
  for (const std::int64_t length : extent) size *= length;
  return size;
}

std::vector<Hyperslab> hyperslabs_of(std::span<const std::int64_t> shape, Range elements) {
  const std::size_t axes = shape.size();
  ensure(axes > 0, "hyperslabs of a tensor without axes");
  std::vector<std::int64_t> stride(axes, 1);  // elements from one index to the next
  for (std::size_t axis = axes - 1; axis > 0; --axis) stride[axis - 1] = stride[axis] * shape[axis];
  ensure(elements.begin >= 0 && elements.end <= stride[0] * shape[0], "elements [{}, {}) of a tensor of {}",
         elements.begin, elements.end, stride[0] * shape[0]);

  std::vector<Hyperslab> slabs;
  for (std::int64_t at = elements.begin; at < elements.end;) {
    // The outermost axis for which the rest of the run begins at an index and has at least one whole index.
    std::size_t axis = 0;
    while (at % stride[axis] != 0 || elements.end - at < stride[axis]) ++axis;
    Hyperslab slab;
    for (std::size_t a = 0; a < axes; ++a) {
      slab.start.push_back(at / stride[a] % shape[a]);
      slab.extent.push_back(a < axis ? 1 : shape[a]);
    }
    slab.extent[axis] = std::min((elements.end - at) / stride[axis], shape[axis] - slab.start[axis]);
    at += slab.size();
    slabs.push_back(std::move(slab));
  }
  return slabs;
}

}  // namespace causeway

#include "io/checkpoint/hyperslabs.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "kernels/core/random.hpp"

namespace causeway {
namespace {

/// Row-major indices of the elements of a slab, in order.
std::vector<std::int64_t> indices(const Hyperslab& slab, const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < slab.size(); ++i) {
    std::int64_t flat = 0, rest = i, stride = 1;
    for (auto axis = std::ssize(shape) - 1; axis >= 0; --axis) {
      const auto a = static_cast<std::size_t>(axis);
      flat += (slab.start[a] + rest % slab.extent[a]) * stride;
      rest /= slab.extent[a];
      stride *= shape[a];
    }
    all.push_back(flat);
  }
  return all;
}

TEST(Hyperslabs, CoverTheRunInOrderAndAreFew) {
  const RandomStream random(1, 2);
  std::uint64_t draw = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::int64_t> shape(1 + random.below(draw++, 4));
    std::int64_t size = 1;
    for (std::int64_t& extent : shape) size *= extent = static_cast<std::int64_t>(1 + random.below(draw++, 6));
    const auto below = [&](std::int64_t bound) {
      return static_cast<std::int64_t>(random.below(draw++, static_cast<std::uint64_t>(bound)));
    };
    const std::int64_t begin = below(size + 1), end = begin + below(size - begin + 1);
    std::vector<std::int64_t> expected(static_cast<std::size_t>(end - begin)), found;
    std::iota(expected.begin(), expected.end(), begin);
    const std::vector<Hyperslab> slabs = hyperslabs_of(shape, {begin, end});
    for (const Hyperslab& slab : slabs)
      for (const std::int64_t index : indices(slab, shape)) found.push_back(index);
    ASSERT_EQ(found, expected);
    ASSERT_LE(slabs.size(), 2 * shape.size() - 1);
  }
}

TEST(Hyperslabs, OfAWholeTensorIsOne) {
  const std::vector<std::int64_t> shape{3, 4, 5};
  EXPECT_EQ(hyperslabs_of(shape, {0, 60}), (std::vector<Hyperslab>{{{0, 0, 0}, {3, 4, 5}}}));
  EXPECT_TRUE(hyperslabs_of(shape, {7, 7}).empty());
}

}  // namespace
}  // namespace causeway

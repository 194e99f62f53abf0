#pragma once

#include <array>

#include "parallel/transport/communicator.hpp"

namespace causeway {

/// The sum over the ranks of each of some numbers in host memory, in one collective call.
template <std::size_t count>
std::array<double, count> sum_over_ranks(Communicator& ranks, std::array<double, count> values) {
  ranks.all_reduce(view_of(values.data(), DType::f64, {count}), Reduction::sum, Stream());
  return values;
}

}  // namespace causeway

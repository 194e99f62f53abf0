#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/core/error.hpp"

/// What the reader and the writer of data.h5 share.
namespace causeway::dataset_format {

inline constexpr const char* name = "causeway-dataset";
inline constexpr std::int64_t version = 1;
inline constexpr std::int64_t largest_vocabulary = std::int64_t{1} << 31;
inline constexpr std::int64_t u16_vocabulary = 65536;  ///< the largest that is stored in 16 bits

/// Throws Error(usage) for a loss weight that is not in [0, 1]. `begin`: the number of the first one.
inline void require_loss_weights(std::span<const float> weights, std::int64_t begin, const std::string& where) {
  const auto wrong = std::ranges::find_if(weights, [](float weight) { return !(weight >= 0 && weight <= 1); });
  require(wrong == weights.end(), "{}: value {} is {}, expected a weight from 0 to 1", where,
          begin + (wrong - weights.begin()), wrong == weights.end() ? 0.0F : *wrong);
}

}  // namespace causeway::dataset_format

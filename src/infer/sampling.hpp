#pragma once

#include <cstdint>
#include <span>

namespace causeway {

struct SamplingOptions {
  double temperature = 1;  ///< logits are divided by it; 0: the likeliest token always
  std::int64_t top_k = 0;  ///< draw among that many likeliest tokens; 0: among all
};

/// Draws the next token from softmax(logits / temperature) with a uniform number of (0, 1). Of equal logits the lower
/// id counts as likelier. Throws Error(non_finite) where a logit is NaN or +∞.
std::int64_t sample(std::span<const double> logits, const SamplingOptions& options, double uniform);

}  // namespace causeway

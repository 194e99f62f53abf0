#pragma once

#include <cstdint>
#include <span>

namespace causeway {

struct SamplingOptions {
  double temperature = 1;  ///< logits are divided by it; 0: always the most likely token
  std::int64_t top_k = 0;  ///< draw among the top_k most likely tokens; 0: among all
};

/// Draws the next token from softmax(logits / temperature); `uniform` is a random number in (0, 1). Of two equal logits
/// the lower id is taken first. Throws Error(non_finite) if a logit is NaN or +∞.
std::int64_t sample(std::span<const double> logits, const SamplingOptions& options, double uniform);

}  // namespace causeway

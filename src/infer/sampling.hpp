#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace causeway {

struct SamplingOptions {
  std::vector<std::int32_t> allowed = {};  ///< the only tokens that can be drawn, ascending; empty: all
  double temperature = 1;                  ///< logits are divided by it; 0: always the most likely token
  std::int64_t top_k = 0;                  ///< draw among the top_k most likely tokens; 0: among all
  double top_p = 1;  ///< draw among the most likely tokens whose probabilities reach top_p together; 1: among all
};

/// Draws the next token from softmax(logits / temperature); `uniform` is a random number in (0, 1). The options apply
/// in their order: top_k are the most likely of the allowed tokens, top_p is a part of the probability of these. Where
/// logits are equal, the lower id is taken first. Throws Error(non_finite) if a logit of an allowed token is NaN or +∞.
std::int64_t sample(std::span<const double> logits, const SamplingOptions& options, double uniform);

}  // namespace causeway

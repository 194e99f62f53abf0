#pragma once

#include <algorithm>
#include <cmath>

namespace causeway::cpu {

/// exp(log_rate), finite: whatever the rate, λ⁰ = exp(-rate·0) is 1, and what is multiplied with a vanished λ is 0.
inline double modal_rate(double log_rate) { return std::exp(std::min(log_rate, 64.0)); }

}  // namespace causeway::cpu

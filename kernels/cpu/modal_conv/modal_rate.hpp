#pragma once

#include <algorithm>
#include <cmath>

namespace causeway::cpu {

/// exp(log_rate), limited to a finite number: so λ⁰ = exp(-rate·0) is 1, not NaN, for any rate, and a term with λ = 0
/// is 0.
inline double modal_rate(double log_rate) { return std::exp(std::min(log_rate, 64.0)); }

}  // namespace causeway::cpu

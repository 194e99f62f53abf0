#pragma once

#include <algorithm>
#include <cstdint>

namespace causeway {

/// Whether products with a weight [outputs, inputs] are faster in FP8 than in bf16, with all that makes their operands.
/// A token saves time in proportion to inputs·outputs, and costs time in proportion to inputs + outputs, whose numbers
/// are quantised and transposed. On an H200 products are in FP8 faster by 7e-16 s an operation, of which a token has
/// 6·inputs·outputs, and operands move 5 bytes a number at 3.4 TB/s: both are equal where inputs·outputs / (inputs +
/// outputs) is 350. Of smaller models, whose steps are not bound by products, only products are excluded whose shape is
/// such that no width would do: one extent is less than an eighth of the other.
constexpr bool fp8_pays(std::int64_t outputs, std::int64_t inputs) {
  constexpr std::int64_t least_harmonic = 350, most_ratio = 8;
  return outputs * inputs >= least_harmonic * (outputs + inputs) ||
         most_ratio * std::min(outputs, inputs) >= std::max(outputs, inputs);
}

}  // namespace causeway

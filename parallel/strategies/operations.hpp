#pragma once

#include <cmath>
#include <cstdint>

namespace causeway {

/// Multiply-adds of one channel of one token, for cost functions; an exponential counts as 10. Rough values are enough:
/// all strategies of an operator compute the same, and differ in their communication and its overlap with computation.
inline double selective_scan_operations(std::int64_t states) { return 13.0 * static_cast<double>(states); }
inline double modal_conv_operations(std::int64_t modes) { return 2.0 * static_cast<double>(modes) + 8; }
inline double direct_conv_operations(std::int64_t longest_document) {
  return static_cast<double>(longest_document) / 2;
}
/// Two complex transforms of twice the length and the product of the spectra.
inline double fft_conv_operations(std::int64_t longest_document) {
  return 10 * std::log2(2.0 * static_cast<double>(longest_document) + 2) + 6;
}
/// Of one channel of `pairs` pairs of a query and a key: the scores and the weighted values.
inline double attention_operations(std::int64_t pairs) { return 2.0 * static_cast<double>(pairs); }

}  // namespace causeway

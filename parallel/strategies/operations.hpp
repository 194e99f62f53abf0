#pragma once

#include <cmath>
#include <cstdint>

namespace causeway {

/// Multiply-adds of one channel of one token, as cost models count them; an exponential is 10. Rough: strategies that
/// compute the same differ by what they send and by how much of it hides.
inline double selective_scan_operations(std::int64_t states) { return 13.0 * static_cast<double>(states); }
inline double modal_conv_operations(std::int64_t modes) { return 2.0 * static_cast<double>(modes) + 8; }
inline double direct_conv_operations(std::int64_t longest_document) {
  return static_cast<double>(longest_document) / 2;
}
/// Two complex transforms of twice the length, and the product between.
inline double fft_conv_operations(std::int64_t longest_document) {
  return 10 * std::log2(2.0 * static_cast<double>(longest_document) + 2) + 6;
}
/// Of a channel too, but of so many pairs of a query and a key: their scores and their values.
inline double attention_operations(std::int64_t pairs) { return 2.0 * static_cast<double>(pairs); }

}  // namespace causeway

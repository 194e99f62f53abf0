#include "src/run/natural_order.hpp"

#include <algorithm>

namespace causeway {
namespace {

/// Removes the digits at the start of `text`, and returns them without leading zeros.
std::string_view take_number(std::string_view& text) {
  const std::size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
  std::string_view digits = text.substr(0, end);
  text.remove_prefix(end);
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  return digits;
}

bool starts_with_digit(std::string_view text) { return !text.empty() && text[0] >= '0' && text[0] <= '9'; }

}  // namespace

bool NaturalLess::operator()(std::string_view a, std::string_view b) const {
  std::string_view left = a, right = b;
  while (!left.empty() && !right.empty()) {
    if (starts_with_digit(left) && starts_with_digit(right)) {
      const std::string_view x = take_number(left), y = take_number(right);
      if (x != y) return x.size() != y.size() ? x.size() < y.size() : x < y;
      continue;
    }
    if (left[0] != right[0]) return static_cast<unsigned char>(left[0]) < static_cast<unsigned char>(right[0]);
    left.remove_prefix(1);
    right.remove_prefix(1);
  }
  if (left.empty() != right.empty()) return left.empty();
  return a < b;  // they differ in leading zeros only
}

}  // namespace causeway

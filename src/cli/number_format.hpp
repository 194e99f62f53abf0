#pragma once

#include <cstdint>
#include <string>

namespace causeway {

/// Numbers in a form that people read.

/// 1234567 → "1.23M": three digits.
std::string shortened(double value);
/// 1234567 → "1,234,567".
std::string grouped(std::int64_t value);
/// 754 → "12 min 34 s".
std::string duration(double seconds);
/// 0.0021 → "2.1 ms".
std::string short_time(double seconds);
/// 3221225472 → "3.00 GiB".
std::string binary_bytes(double bytes);

}  // namespace causeway
